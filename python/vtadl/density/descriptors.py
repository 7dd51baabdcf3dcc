"""The descriptors that a dictionary chooses from."""

from vtadl.density.settings import DensitySettings, Descriptor
from vtadl.features.energies import LocalEnergies
from vtadl.features.extractor import FeatureExtractor
from vtadl.features.vision_transformers import PretrainedPatches
from vtadl.features.windows import Windows


def make_extractors(
    settings: DensitySettings, image_size: tuple[int, int]
) -> dict[Descriptor, FeatureExtractor]:
    """The features of each descriptor, for images of a size.

    Raises:
        InputError: If a size does not divide another, or there is no such pretrained transformer.
    """
    if settings.pretrained:
        patches = PretrainedPatches(settings.pretrained, image_size, settings.pretrained_layers)
        return {"pretrained": patches}
    return {
        "energies": LocalEnergies(image_size, settings.stride),
        "pixels": Windows(image_size, settings.stride, settings.window, settings.scales),
    }
