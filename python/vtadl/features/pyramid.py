"""Features of a frozen convolutional network: its maps at several scales."""

import importlib
import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.errors import InputError
from vtadl.features.frozen import IMAGENET_COLOURS, FrozenNetwork
from vtadl.images.tiles import Size

_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*")


class FeaturePyramid(FrozenNetwork):
    """Maps of a network, resized to the first of them, with their channels side by side.

    The forward method of the network takes images [B, 3, H, W], whose colours are normalised by the mean and
    the standard deviation of ImageNet's. It returns one map [B, C, h, w] or a sequence of maps, which may
    differ in size. A class that a user names is made without arguments, and loads its weights itself;
    checkpoints hold them, too.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        size: Size,
        averaged: bool = False,
        has_weights: bool = True,
    ) -> None:
        """Finds the grid of the maps.

        Args:
            model: The network.
            name: Its name in errors.
            size: Height and width to which images are resized.
            averaged: Whether each position is averaged with its eight neighbours.
            has_weights: Whether the weights are those of training.

        Raises:
            InputError: If the network does not return maps for images of this size.
        """
        super().__init__(model, size, IMAGENET_COLOURS, has_weights)
        self.averaged = averaged
        first = self._probe(name)[0]
        self.grid = (first.shape[2], first.shape[3])

    def features(self, images: Tensor) -> Tensor:
        maps = self._maps(images)
        joined = torch.cat([_resize(map_, self.grid) for map_ in maps], dim=1)
        if self.averaged:
            joined = F.avg_pool2d(joined, 3, stride=1, padding=1, count_include_pad=False)
        return joined.flatten(2).transpose(1, 2)

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps = self.model(images)
        return [maps] if isinstance(maps, Tensor) else list(maps)

    @torch.no_grad()
    def _probe(self, name: str) -> list[Tensor]:
        """The maps of a black image."""
        height, width = self.size
        try:
            maps = self._maps(self.mean.new_zeros(1, 3, height, width))
        except Exception as error:
            raise InputError(f"backbone {name} cannot take images of {height}x{width}: {error}") from error
        if not maps or any(not isinstance(map_, Tensor) or map_.dim() != 4 for map_ in maps):
            raise InputError(f"backbone {name} does not return maps [B, C, h, w]")
        return maps


def is_class_path(name: str) -> bool:
    """Whether a name is that of a class, such as package.module.Class or package.module:Class."""
    return _CLASS_PATH.fullmatch(name) is not None


def make_network(class_path: str) -> nn.Module:
    """Makes a network of a class, without arguments.

    Raises:
        InputError: If there is no such class, or it makes no module.
    """
    module, _, name = class_path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"backbone {class_path} cannot be imported ({error}): its module has to be on PYTHONPATH"
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise InputError(f"backbone {class_path} is no class of torch.nn.Module")
    try:
        return found()
    except Exception as error:
        raise InputError(f"backbone {class_path} cannot be made without arguments: {error}") from error


def _resize(map_: Tensor, grid: Size) -> Tensor:
    if map_.shape[2:] == grid:
        return map_
    return F.interpolate(map_, grid, mode="bilinear", antialias=True)
