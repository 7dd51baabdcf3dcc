"""Argument checks. Every error names the argument, what is wanted and what it got."""

from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def _one_of(options: Sequence[object]) -> str:
    *others, last = map(str, options)
    return f"{', '.join(others)} or {last}"


_FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_FLOATING_NAMES = _one_of(_FLOATING)
_INTEGERS = (
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
)

# This is computed once, because torch.compile of PyTorch 2.10 cannot trace the call.
_AUTOCAST_DEVICES = {
    kind for kind in ("cpu", "cuda", "xpu", "mps", "hpu") if torch.amp.is_autocast_available(kind)
}


def checked_tensors(**tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, once they are dense, floating-point, and of the dtype and device of the first.

    Under autocast all are converted to the widest of their dtypes, as by PyTorch's own operators.
    """
    check_tensors(**tensors)
    return _of_one_dtype(tensors)


def checked_images(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The same of images, which may also hold integers."""
    tensors = {"x": x, "y": y}
    _check_tensors(tensors, (*_FLOATING, *_INTEGERS), f"{_FLOATING_NAMES}, or one of integers")
    x, y = _of_one_dtype(tensors)
    return x, y


def _of_one_dtype(tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    first_name, first = next(iter(tensors.items()))
    if is_autocast(first.device):
        dtype = first.dtype
        for tensor in tensors.values():
            dtype = torch.promote_types(dtype, tensor.dtype)
        return tuple(tensor.to(dtype) for tensor in tensors.values())
    for name, tensor in tensors.items():
        if tensor.dtype != first.dtype:
            raise TypeError(f"{name} must have the dtype of {first_name}, {first.dtype}, got {tensor.dtype}")
    return tuple(tensors.values())


def check_tensors(**tensors: Tensor) -> None:
    """Dense floating-point tensors on one device."""
    _check_tensors(tensors, _FLOATING, _FLOATING_NAMES)


def _check_tensors(tensors: Mapping[str, Tensor], dtypes: Sequence[torch.dtype], wanted: str) -> None:
    for name, tensor in tensors.items():
        _check_dense(name, tensor, "a torch.Tensor", dtypes, wanted)
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if tensor.device != first.device:
            raise ValueError(
                f"{name} must be on the device of {first_name}, {first.device}, got {tensor.device}"
            )


def is_autocast(device: torch.device) -> bool:
    return device.type in _AUTOCAST_DEVICES and torch.is_autocast_enabled(device.type)


def check_mask(mask: Tensor | None, x: Tensor) -> None:
    """A bool tensor that broadcasts to the shape of x, or None."""
    if mask is not None:
        wanted = "torch.bool, True where a pixel is valid"
        _check_dense("mask", mask, "a torch.Tensor or None", (torch.bool,), wanted)
        _check_broadcasts("mask", mask, x.shape, "x", x.device)


def check_sample_weight(sample_weight: Tensor, batch_shape: torch.Size, device: torch.device) -> None:
    """A tensor of bool or floating-point numbers that broadcasts to the samples."""
    dtypes, wanted = (*_FLOATING, torch.bool), f"torch.bool, {_FLOATING_NAMES}"
    _check_dense("sample_weight", sample_weight, "a torch.Tensor or None", dtypes, wanted)
    _check_broadcasts("sample_weight", sample_weight, batch_shape, "the samples", device)


def _check_dense(
    name: str, tensor: Tensor, wanted_type: str, dtypes: Sequence[torch.dtype], wanted_dtypes: str
) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be {wanted_type}, got {type(tensor).__name__}")
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name} must have dtype {wanted_dtypes}, got {tensor.dtype}")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {tensor.layout}")


def _check_broadcasts(name: str, tensor: Tensor, shape: torch.Size, owner: str, device: torch.device) -> None:
    if tensor.device != device:
        raise ValueError(f"{name} must be on the device of x, {device}, got {tensor.device}")
    if not _broadcasts_to(tensor.shape, shape):
        raise ValueError(
            f"{name} must broadcast to the shape of {owner}, {list(shape)}, got shape {list(tensor.shape)}"
        )


def _broadcasts_to(shape: torch.Size, full: torch.Size) -> bool:
    aligned = zip(reversed(shape), reversed(full), strict=False)
    return len(shape) <= len(full) and all(size in (1, wanted) for size, wanted in aligned)


def check_option(name: str, value: str, options: Sequence[str]) -> None:
    if value not in options:
        raise ValueError(f"{name} must be {_one_of([repr(option) for option in options])}, got {value!r}")


def check_number(name: str, value: float, *, zero_allowed: bool = False) -> None:
    """A finite positive number, or 0 if that is allowed."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (0 < value < float("inf") or (zero_allowed and value == 0)):
        wanted = "at least 0" if zero_allowed else "positive"
        raise ValueError(f"{name} must be finite and {wanted}, got {value}")


def check_count(name: str, value: int) -> None:
    """An integer from 1 to the largest signed one of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not 1 <= value < 2**63:
        wanted = "at least 1" if value < 1 else "less than 2**63"
        raise ValueError(f"{name} must be {wanted}, got {value}")


def check_flag(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def checked_sizes(name: str, value: Iterable[int]) -> tuple[int, ...]:
    """A shape: integers of at least 0, from any sequence but a tensor, as in PyTorch."""
    sizes = None if isinstance(value, Tensor) else items_of(value)
    if sizes is None or not all(_is_integer(size) for size in sizes):
        raise TypeError(f"{name} must be a sequence of integers, got {value!r}")
    if any(size < 0 for size in sizes):
        raise ValueError(f"{name} must hold no negative sizes, got {value!r}")
    return tuple(int(size) if isinstance(size, Integral) else size for size in sizes)


def checked_numbers(name: str, value: Iterable[float]) -> tuple[float, ...]:
    """One or more finite positive numbers, from any sequence: a list, an array, a tensor."""
    numbers = items_of(value)
    if numbers is None:
        raise TypeError(f"{name} must be a sequence of numbers, got {value!r}")
    if not numbers:
        raise ValueError(f"{name} must hold one number or more, got none")
    for i, number in enumerate(numbers):
        check_number(f"{name}[{i}]", number)
    return tuple(map(float, numbers))


def items_of(value: Any) -> list[Any] | None:
    """The items of a sequence, those of an array as Python's numbers; None for anything else."""
    if isinstance(value, Real):  # first, because torch.compile may make numbers symbolic
        return None
    if hasattr(value, "tolist"):  # arrays, tensors, series
        value = value.tolist()
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping | Set):
        return None
    return [item.item() if getattr(item, "shape", None) == () else item for item in value]


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral | torch.SymInt) and not isinstance(value, bool)


def check_generator(generator: torch.Generator | None, device: torch.device) -> None:
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
    if generator.device.type != device.type:
        raise ValueError(f"generator must be on the device of logits, {device}, got {generator.device}")
