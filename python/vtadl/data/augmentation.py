"""Random augmentation of training images."""

from dataclasses import dataclass

from torch import Tensor, nn

from vtadl.common.ranges import require_less_than_all, require_not_negative


@dataclass
class Augmentation:
    """Random changes of training images, drawn anew each time; by default there are none.

    Choose only changes that occur among normal images: a flipped transistor is a defect, but a rotated screw
    is not.

    Args:
        horizontal_flip: Flip images left to right with a probability of one half.
        vertical_flip: Flip images upside down with a probability of one half.
        rotation: Largest angle of rotation in either direction, in degrees.
        shift: Largest shift along each side, as a fraction of that side.
        zoom: Largest change of size, as a fraction.
        brightness: Largest change of brightness, as a fraction.
        contrast: Largest change of contrast, as a fraction.

    Raises:
        InputError: If a number is negative, or a fraction is not less than 1.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        require_not_negative(rotation=self.rotation)
        require_less_than_all(shift=self.shift, zoom=self.zoom)
        require_less_than_all(brightness=self.brightness, contrast=self.contrast)

    def build(self) -> nn.Module:
        """Makes the module that changes each image of a batch [B, 3, H, W] in [0, 1] independently."""
        from kornia import augmentation as kornia  # the import takes a second

        steps: list[nn.Module] = []
        if self.horizontal_flip:
            steps.append(kornia.RandomHorizontalFlip())
        if self.vertical_flip:
            steps.append(kornia.RandomVerticalFlip())
        if self.rotation or self.shift or self.zoom:
            scale = (1 - self.zoom, 1 + self.zoom)
            shift = (self.shift, self.shift)
            steps.append(kornia.RandomAffine(self.rotation, shift, scale, padding_mode="border", p=1.0))
        if self.brightness or self.contrast:
            steps.append(kornia.ColorJitter(self.brightness, self.contrast, p=1.0))
        return nn.Sequential(*steps, Clamp())


class Clamp(nn.Module):
    """Clamps images to [0, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        return images.clamp(0, 1)
