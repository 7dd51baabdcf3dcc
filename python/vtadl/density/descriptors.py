"""The descriptors that a dictionary chooses from."""

from collections.abc import Callable, Sequence

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
    """The features of the given descriptor, or of all that exist, for images of a size.

    Raises:
        InputError: If a size does not divide another, or the backbone cannot be loaded.
    """
    stride = choose_stride(image_size) if settings.stride is None else settings.stride
    makers: dict[Descriptor, Callable[[], FeatureExtractor]] = {
        "backbone": lambda: _make_backbone(settings, image_size),
        "energies": lambda: LocalEnergies(image_size, stride),
        "pixels": lambda: Windows(image_size, stride, settings.window, settings.scales),
        "multiscale-energies": lambda: MultiscaleEnergies(image_size, stride),
    }
    return {name: makers[name]() for name in _names(settings, (*image_size, stride))}


def _names(settings: DensitySettings, sizes: Sequence[int]) -> list[Descriptor]:
    if settings.descriptor is not None:
        return [settings.descriptor]
    if settings.backbone and settings.trains:  # a gate has the grid of the only expert
        return ["backbone"]
    names: list[Descriptor] = ["backbone"] if settings.backbone else []
    names += ["energies", "pixels"]
    return names if any(size % 2 for size in sizes) else [*names, "multiscale-energies"]


def _make_backbone(settings: DensitySettings, image_size: tuple[int, int]) -> FeatureExtractor:
    assert settings.backbone is not None
    return make_backbone(
        settings.backbone,
        image_size,
        settings.backbone_layers,
        settings.backbone_size,
        settings.backbone_config,
    )


def choose_stride(image_size: tuple[int, int]) -> int:
    """The pixels between windows, a multiple of 4, by which an image has about 32 windows a side."""
    wanted = max(_MIN_STRIDE, min(image_size) // _WINDOWS_A_SIDE)
    strides = range(_MIN_STRIDE, wanted + 1, _MIN_STRIDE)
    return max((s for s in strides if image_size[0] % s == image_size[1] % s == 0), default=_MIN_STRIDE)
