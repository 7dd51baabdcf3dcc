"""The turns and mirror images of normal images that are as normal as these: found without labels."""

from typing import NamedTuple

import torch
from torch import Tensor

from vtadl.density import DensitySettings, Dictionary, ExpertSettings
from vtadl.density.descriptors import make_extractors
from vtadl.density.settings import Symmetry
from vtadl.errors import InputError
from vtadl.images.tiles import Size
from vtadl.scoring.statistics import top_k_mean

# Each element turns an image by so many quarters, modulo 4; from 4 on, it mirrors the result.
ELEMENTS: dict[Symmetry, tuple[int, ...]] = {
    "all": (1, 2, 3, 4, 5, 6, 7),
    "quarter-turns": (1, 2, 3),
    "mirrors": (2, 4, 6),
    "half-turn": (2,),
    "mirror-x": (4,),
    "mirror-y": (6,),
    "none": (),
}
_MAX_IMAGES = 400  # with turned ones; more of them gain little, and take time
_SQUARE: tuple[Symmetry, ...] = ("all", "quarter-turns")  # turn a wide image into a high one
_IMAGES = 48  # of which one half explains the other
_MIN_IMAGES = 16
_MIN_WINS = 0.25  # of the images; a half is expected under a symmetry, and none without
_TOP_WINDOWS = 10
_NEAREST = ExpertSettings("energies", "near")


class Normal(NamedTuple):
    """Normal images, and turned and mirrored ones that are as normal."""

    images: Tensor  # [M, C, H, W]; the N given ones first
    origins: Tensor  # [M], the index of the image that each was made of
    symmetry: Symmetry


def require_turnable(size: Size, symmetry: Symmetry | None) -> None:
    """Raises InputError if the symmetry turns images of this size by a quarter and they are not square."""
    if symmetry in _SQUARE and size[0] != size[1]:
        raise InputError(
            f"symmetry is {symmetry}, which needs square images; image_size is {size[0]}x{size[1]}"
        )


def add_turned(images: Tensor, symmetry: Symmetry | None = None, seed: int = 0) -> Normal:
    """Adds turned and mirrored images to normal images [N, C, H, W], until there are 400 or no more.

    If the symmetry is null (None), it is found from the images.
    """
    num_added = max(0, _MAX_IMAGES - len(images))
    if symmetry is None:
        symmetry = find_symmetry(images, seed) if num_added else "none"
    elements = ELEMENTS[symmetry]
    order = torch.randperm(len(elements) * len(images), generator=torch.Generator().manual_seed(seed))
    added = order[:num_added]
    turned = [turn(images[i % len(images)], elements[i // len(images)])[None] for i in added.tolist()]
    origins = torch.cat([torch.arange(len(images)), added % len(images)])
    return Normal(torch.cat([images, *turned]), origins, symmetry)


def find_symmetry(images: Tensor, seed: int = 0) -> Symmetry:
    """Finds under which turns and mirrorings normal images [N, C, H, W] stay normal.

    Of some images, one half explains the other, by the nearest windows at the same position. A symmetry holds
    if the turned images of the one half explain enough images of the other better than the unturned ones do:
    it does for screws that lie in all directions, and does not for bottles that are lit from one side.

    Returns:
        The largest symmetry that holds; `none` for fewer than 16 images.
    """
    if len(images) < _MIN_IMAGES:
        return "none"
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).to(images.device)
    explaining, explained = images[order[:_IMAGES]].chunk(2)
    height, width = images.shape[-2:]
    extractors = make_extractors(DensitySettings(descriptor="energies"), (height, width))
    dictionary = Dictionary(extractors).to(images.device)
    coefficients = dictionary.fit_projection(explaining, "energies")
    others = dictionary.pca_coefficients(explained, "energies")

    def scores(coefficients: Tensor) -> Tensor:
        distances = dictionary.fit_expert(coefficients, _NEAREST).scores(others)
        return top_k_mean(distances, _TOP_WINDOWS)

    plain, wins = scores(coefficients), {}
    symmetries = [name for name in ELEMENTS if height == width or name not in _SQUARE]
    for element in {element for name in symmetries for element in ELEMENTS[name]}:
        turned = dictionary.pca_coefficients(turn(explaining, element), "energies")
        wins[element] = (scores(turned) < plain).float().mean().item()
    return next(x for x in symmetries if all(wins[element] >= _MIN_WINS for element in ELEMENTS[x]))


def turn(images: Tensor, element: int) -> Tensor:
    """Turns, and mirrors, images [..., H, W] by an element of a symmetry."""
    turned = images.rot90(element % 4, (-2, -1))
    return turned.flip(-1) if element >= 4 else turned
