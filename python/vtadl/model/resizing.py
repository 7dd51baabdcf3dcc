"""Modules whose sizes are found from data."""

from typing import Any

import torch
from torch import nn


class Resizing(nn.Module):
    """A module whose own parameters and buffers take the sizes of the state that is loaded."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            saved = state_dict.get(prefix + name)
            if tensor is not None and saved is not None and saved.shape != tensor.shape:
                tensor.data = torch.empty_like(saved, device=tensor.device, dtype=tensor.dtype)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
