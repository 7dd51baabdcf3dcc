"""Features of a frozen, pretrained vision transformer."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.common.precision import full_precision, in_full_precision
from vtadl.errors import InputError
from vtadl.features.extractor import FeatureExtractor

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class PretrainedPatches(FeatureExtractor):
    """Hidden states of a vision transformer of the `transformers` library, one per patch.

    The image is resized to the size that the transformer was trained on, if its configuration states one.
    """

    @full_precision()
    def __init__(self, source: str, image_size: tuple[int, int], layers: Sequence[int] = (-2, -1)) -> None:
        """Loads the transformer.

        Args:
            source: Folder of `save_pretrained`, or a name on the hub.
            image_size: Height and width of the images.
            layers: Hidden states to concatenate; 0 is the embedding, -1 the last.

        Raises:
            InputError: If there is no such model, it has no patches, or a layer does not exist.
        """
        super().__init__()
        self.model = _load(source)
        config = self.model.config
        patch, size = getattr(config, "patch_size", None), getattr(config, "image_size", None)
        if not isinstance(patch, int):
            raise InputError(f"{source} is no vision transformer: its configuration has no patch_size")
        depth = config.num_hidden_layers + 1
        if not layers or any(not -depth <= layer < depth for layer in layers):
            raise InputError(f"pretrained_layers {list(layers)} are not all among the {depth} of {source}")
        self.size = (size, size) if isinstance(size, int) else tuple(size or image_size)
        self.layers = tuple(layers)
        self.grid = (self.size[0] // patch, self.size[1] // patch)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def train(self, mode: bool = True) -> "PretrainedPatches":
        """Keeps evaluation mode, because dropout would make the features random."""
        return super().train(False)

    @torch.no_grad()
    @in_full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Turns images [B, 3, H, W] in [0, 1] into features [B, P, F], row by row."""
        images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        states = self.model(
            pixel_values=(images - self.mean) / self.std, output_hidden_states=True
        ).hidden_states
        patches = self.grid[0] * self.grid[1]  # class and register tokens come before them
        return torch.cat(
            [F.layer_norm(s, s.shape[-1:])[:, -patches:] for s in map(states.__getitem__, self.layers)], -1
        )


def _load(source: str) -> Any:
    try:
        from transformers import AutoModel
    except ModuleNotFoundError as error:
        raise InputError(
            "pretrained features need transformers: pip install 'vtadl-ext[pretrained]'"
        ) from error
    try:
        return AutoModel.from_pretrained(source).float().eval().requires_grad_(False)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the pretrained model {source}: {error}") from error
