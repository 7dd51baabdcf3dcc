"""Modules whose tensors take their shapes from data."""

from typing import Any

from torch import Tensor, nn

from vtadl.common.precision import FullPrecisionModule


class DataSizedModule(FullPrecisionModule):
    """A module whose parameters and buffers take the shapes of the state that it loads."""

    def replace(self, name: str, values: Tensor) -> None:
        """Replaces a parameter or buffer by values of any shape."""
        old = getattr(self, name)
        new = nn.Parameter(values, old.requires_grad) if isinstance(old, nn.Parameter) else values
        setattr(self, name, new)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            saved = state_dict.get(prefix + name)
            if tensor is not None and saved is not None and saved.shape != tensor.shape:
                self.replace(name, tensor.new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
