"""The base class of frozen networks, whose features need no training."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtadl.common.precision import full_precision, in_full_precision
from vtadl.errors import InputError
from vtadl.features.extractor import FeatureExtractor
from vtadl.images.tiles import Size

IMAGENET_COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class FrozenNetwork(FeatureExtractor):
    """Features of a network that stays as it is, for images of the size and the colours that it knows.

    The weights are part of the state, in half precision where that is exact, so that a checkpoint can be
    loaded where the source of the weights is missing.
    """

    has_weights: bool  # a network that was built without weights gets them from a checkpoint

    @full_precision()
    def __init__(
        self, model: nn.Module, size: Size, colours: Mapping[str, Sequence[float]], has_weights: bool
    ) -> None:
        """Freezes the network.

        Args:
            model: The network.
            size: Height and width to which images are resized.
            colours: Mean and standard deviation (`mean` and `std`) of red, green and blue.
            has_weights: Whether the weights are those of training; if not, a checkpoint has to be loaded.
        """
        super().__init__()
        self.model = model.float().eval().requires_grad_(False)
        self.size, self.has_weights = size, has_weights
        self.config: dict[str, Any] = {}  # from which the network can be built without its source
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(colours[name]).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.register_state_dict_post_hook(_halve_weights)

    def train(self, mode: bool = True) -> "FrozenNetwork":
        """Keeps evaluation mode, because dropout would make the features random."""
        return super().train(False)

    @torch.no_grad()
    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Turns images [B, 3, H, W] in [0, 1] into features [B, P, F], row by row.

        Raises:
            InputError: If the network was built without weights, and no checkpoint has been loaded.
        """
        if not self.has_weights:
            raise InputError("the backbone has no weights: backbone_config needs those of a checkpoint")
        images = F.interpolate(images, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        return self.features((images - self.mean) / self.std)

    def features(self, images: Tensor) -> Tensor:
        """Turns normalised images [B, 3, H, W] of the network's size into features [B, P, F]."""
        raise NotImplementedError

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.has_weights = True


def _halve_weights(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Converts the weights in a state to float16 where no bit is lost."""
    for name, tensor in state.items():
        if name.startswith(f"{prefix}model.") and tensor.dtype == torch.float32:
            half = tensor.half()
            if torch.equal(half.float(), tensor):
                state[name] = half
