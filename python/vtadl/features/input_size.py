"""The size of the images that a frozen network sees."""

from typing import Literal

from vtadl.errors import InputError
from vtadl.images.tiles import Size, as_pair

InputSize = int | Size | Literal["trained"] | None


def proportional_size(image_size: Size, shorter_side: int, multiple: int) -> Size:
    """The size of about `shorter_side` that has the aspect ratio of an image, in multiples of `multiple`."""
    scale = shorter_side / min(image_size) / multiple
    height, width = (max(1, round(side * scale)) * multiple for side in image_size)
    return height, width


def choose_size(given: InputSize, default: Size, trained: Size, multiple: int) -> Size:
    """The given size; `trained` stands for the size that the network was trained on, null for the default.

    Raises:
        InputError: If a side is not a multiple of `multiple`.
    """
    if given is None:
        return default
    size = trained if given == "trained" else as_pair(given)
    if size[0] % multiple or size[1] % multiple:
        raise InputError(
            f"backbone_size {size[0]}x{size[1]} is not a multiple of {multiple}, the backbone's patch size"
        )
    return size
