"""The descriptors that a dictionary chooses from."""

from vtadl.density.settings import DensitySettings, Descriptor
from vtadl.features.backbones import make_backbone
from vtadl.features.energies import LocalEnergies, MultiscaleEnergies
from vtadl.features.extractor import FeatureExtractor
from vtadl.features.windows import Windows

_MIN_STRIDE = 4  # pixels
_WINDOWS_A_SIDE = 32


def make_extractors(
    settings: DensitySettings, image_size: tuple[int, int]
) -> dict[Descriptor, FeatureExtractor]:
    """The features of each descriptor, for images of a size.

    Raises:
        InputError: If a size does not divide another, or the backbone cannot be loaded.
    """
    extractors: dict[Descriptor, FeatureExtractor] = {}
    if settings.backbone:
        extractors["backbone"] = make_backbone(
            settings.backbone,
            image_size,
            settings.backbone_layers,
            settings.backbone_size,
            settings.backbone_config,
        )
        if settings.trains:  # a gate has the grid of the only expert
            return extractors
    stride = choose_stride(image_size) if settings.stride is None else settings.stride
    extractors["energies"] = LocalEnergies(image_size, stride)
    extractors["pixels"] = Windows(image_size, stride, settings.window, settings.scales)
    if all(number % 2 == 0 for number in (*image_size, stride)):
        extractors["multiscale-energies"] = MultiscaleEnergies(image_size, stride)
    return extractors


def choose_stride(image_size: tuple[int, int]) -> int:
    """The pixels between windows, a multiple of 4, by which an image has about 32 windows a side."""
    wanted = max(_MIN_STRIDE, min(image_size) // _WINDOWS_A_SIDE)
    strides = range(_MIN_STRIDE, wanted + 1, _MIN_STRIDE)
    return max((s for s in strides if image_size[0] % s == image_size[1] % s == 0), default=_MIN_STRIDE)
