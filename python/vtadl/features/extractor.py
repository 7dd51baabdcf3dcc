"""The base class of all features."""

from torch import Tensor

from vtadl.common.data_sized import DataSizedModule
from vtadl.errors import InputError


class FeatureExtractor(DataSizedModule):
    """Turns images [B, C, H, W] into features [B, P, F] at the positions of a grid, row by row."""

    grid: tuple[int, int]

    @staticmethod
    def grid_of(image_size: tuple[int, int], stride: int) -> tuple[int, int]:
        """Returns the rows and columns of positions `stride` pixels apart.

        Raises:
            InputError: If the stride does not divide the image.
        """
        if image_size[0] % stride or image_size[1] % stride:
            raise InputError(
                f"image_size {image_size[0]}x{image_size[1]} is not a multiple of stride {stride}"
            )
        return image_size[0] // stride, image_size[1] // stride

    def fit(self, images: Tensor) -> None:
        """Fits the features to normal images [N, C, H, W]; most features need no fit."""
