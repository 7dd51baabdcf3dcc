"""The descriptors that a dictionary chooses from."""

from vtadl.density.settings import DensitySettings, Descriptor
from vtadl.features.backbones import make_backbone
from vtadl.features.energies import LocalEnergies
from vtadl.features.extractor import FeatureExtractor
from vtadl.features.windows import Windows


def make_extractors(
    settings: DensitySettings, image_size: tuple[int, int]
) -> dict[Descriptor, FeatureExtractor]:
    """The features of each descriptor, for images of a size.

    Raises:
        InputError: If a size does not divide another, or the backbone cannot be loaded.
    """
    if settings.backbone:
        backbone = make_backbone(
            settings.backbone,
            image_size,
            settings.backbone_layers,
            settings.backbone_size,
            settings.backbone_config,
        )
        return {"backbone": backbone}
    return {
        "energies": LocalEnergies(image_size, settings.stride),
        "pixels": Windows(image_size, settings.stride, settings.window, settings.scales),
    }
