"""What every kind of feature has in common."""

from torch import Tensor

from vtadl.model.resizing import Resizing


class FeatureExtractor(Resizing):
    """Turns images [B, C, H, W] into features [B, P, F] at the positions of a grid, row by row."""

    grid: tuple[int, int]

    def fit(self, images: Tensor) -> None:
        """Learns from normal images [N, C, H, W] what it has to know; most have to know nothing."""
