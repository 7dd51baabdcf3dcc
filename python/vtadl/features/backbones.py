"""The frozen networks that a user can choose by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtadl.errors import InputError
from vtadl.features.efficientnet import EfficientNetMaps, is_efficientnet
from vtadl.features.frozen import FrozenNetwork
from vtadl.features.input_size import InputSize, choose_size, proportional_size
from vtadl.features.pyramid import FeaturePyramid, is_class_path, make_network
from vtadl.features.vision_transformer import SHORTER_SIDE, VisionTransformer
from vtadl.images.tiles import Size

_SHORTER_SIDE, _STRIDE = 256, 32  # pixels, of convolutional networks
_CONFIG_KEYS = {"efficientnet": {"kind"}, "class": {"kind"}, "transformer": {"kind", "model", "mean", "std"}}


def make_backbone(
    name: str,
    image_size: Size,
    layers: Sequence[int] | None = None,
    size: InputSize = None,
    config: dict[str, Any] | None = None,
) -> FrozenNetwork:
    """Makes the features of a frozen network.

    Args:
        name: `efficientnet-lite0`; the path of a class, such as `package.module.Class`; or a vision
            transformer of the `transformers` library: its folder, its name on the hub, or a short name such
            as `dinov2-small`.
        image_size: Height and width of the images.
        layers: Layers to concatenate; by default those in the middle, which localise best.
        size: Size to which images are resized.
        config: The `config` of the network that a checkpoint holds; weights are not loaded then, because
            they come from the checkpoint too.

    Raises:
        InputError: If the network or its weights are missing, or it lacks a layer or the size.
    """
    kind = _kind(name) if config is None else _saved_kind(config)
    if kind == "transformer":
        backbone: FrozenNetwork = VisionTransformer(name, image_size, layers, size, config)
    else:
        default = proportional_size(image_size, _SHORTER_SIDE, _STRIDE)
        chosen = choose_size(size, default, default, 1)
        if kind == "efficientnet":
            maps = EfficientNetMaps(name, layers, with_weights=config is None)
            backbone = FeaturePyramid(maps, name, chosen, averaged=True, has_weights=config is None)
        elif layers is not None:
            raise InputError(f"backbone_layers must be null: {name} chooses its maps itself")
        else:
            backbone = FeaturePyramid(make_network(name), name, chosen)
    backbone.config["kind"] = kind
    return backbone


def default_side(name: str) -> int:
    """The shorter side, in pixels, of the images that a network sees by default."""
    return SHORTER_SIDE if _kind(name) == "transformer" else _SHORTER_SIDE


def _saved_kind(config: dict[str, Any]) -> str:
    """The kind of a network whose configuration a checkpoint holds."""
    kind = config.get("kind")
    if kind not in _CONFIG_KEYS or set(config) != _CONFIG_KEYS[kind]:
        raise InputError("backbone_config is not that of a checkpoint")
    return kind


def _kind(name: str) -> str:
    """Which of the kinds a name belongs to."""
    if is_efficientnet(name):
        return "efficientnet"
    return "class" if is_class_path(name) and not Path(name).expanduser().is_dir() else "transformer"
