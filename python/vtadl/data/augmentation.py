"""Random changes of training images after which a normal image is still normal."""

from dataclasses import dataclass

from torch import Tensor, nn

from vtadl.common.ranges import require_less_than_all, require_not_negative


@dataclass
class Augmentation:
    """What may change in a training image, drawn anew each time; nothing does unless it is asked for.

    Ask only for what happens to normal images: a flipped transistor is a defect, a turned screw is not.

    Args:
        horizontal_flip: Exchange left and right for every second image.
        vertical_flip: Exchange top and bottom for every second image.
        rotation: Largest angle of a turn in either direction, in degrees.
        shift: Largest shift along each side, as a fraction of it.
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
        """Turns batches [B, 3, H, W] in [0, 1] into changed ones, each image by itself."""
        from kornia import augmentation as kornia  # takes a second to import

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
    """Keeps images in [0, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        return images.clamp(0, 1)
