"""Computation in float32 or float64, whatever precision the user has set for other models.

Scores are logarithms of small energies and of densities of many features. Rounded to bfloat16 they would be
noise, and a threshold that was estimated in one precision is not valid in another.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from vtadl.errors import InputError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_DEVICES = ("cpu", "cuda", "mps", "xpu")
_EXACT = {"ieee", "none"}
_ACCEPTED = (None, 32, "32", "32-true", 16, "16", "16-mixed", "bf16", "bf16-mixed")  # names of Lightning


@contextmanager
def full_precision() -> Iterator[None]:
    """Disables autocast and TF32, and makes float32 the default type of new tensors."""
    with ExitStack() as stack:
        for device in filter(torch.is_autocast_enabled, _DEVICES):
            stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_dtype() != torch.float32:
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)
        stack.enter_context(_exact_products())
        yield


def in_full_precision(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorates a function so that it computes in :func:`full_precision`.

    If the function is a method of a module with parameters or buffers, floating-point arguments are converted
    to the type of that module; otherwise they are converted to float32 unless they are float64.
    """

    @wraps(function)
    def decorated(*arguments: _P.args, **named: _P.kwargs) -> _R:
        cast = partial(_cast, dtype=_precision_of(arguments[0]))
        with full_precision():
            return function(*tree_map(cast, arguments), **tree_map(cast, named))

    return decorated


class FullPrecisionModule(nn.Module):
    """A module that ignores conversions to less than float32, such as `half()`.

    `to("cuda", torch.bfloat16)` moves the module and keeps its type. A larger model that contains a detector
    can therefore be converted.
    """

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def move(tensor: Tensor) -> Tensor:
            moved = function(tensor)
            changed = moved.dtype != tensor.dtype and moved.dtype not in (torch.float32, torch.float64)
            return tensor.to(moved.device) if changed else moved

        return super()._apply(move, recurse)


def require_precision(precision: Any) -> None:
    """Raises InputError for a precision of Lightning in which images or weights would not be float32."""
    if precision not in _ACCEPTED:
        raise InputError(
            f"trainer.precision {precision} is not supported: images and densities are float32; use 32-true, "
            "or bf16-mixed or 16-mixed, in which transformer and decoder are trained in half precision"
        )


@contextmanager
def _exact_products() -> Iterator[None]:
    """Prevents the rounding of float32 matrix products and convolutions to TF32 or bfloat16.

    PyTorch has old and new switches, and raises an error if they contradict each other. The old switches are
    set first, which sets most of the new ones; the remaining new switches are set after that.
    """
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    products = {backend: backend.fp32_precision for backend in (torch.backends.cuda.matmul, mkldnn.matmul)}
    convolutions = {backend: backend.fp32_precision for backend in (cudnn.conv, cudnn.rnn)}
    others = {mkldnn.conv: mkldnn.conv.fp32_precision}
    with ExitStack() as stack:
        if _rounds(products):
            _restore_later(stack, products)
            medium = products[mkldnn.matmul] == "bf16"
            stack.callback(torch.set_float32_matmul_precision, "medium" if medium else "high")
            torch.set_float32_matmul_precision("highest")
        if _rounds(convolutions):
            _restore_later(stack, convolutions)
            stack.callback(setattr, cudnn, "allow_tf32", True)
            cudnn.allow_tf32 = False
        _restore_later(stack, others)
        for backend in (*products, *convolutions, *others):
            if backend.fp32_precision not in _EXACT:
                backend.fp32_precision = "ieee"
        yield


def _rounds(backends: dict[Any, str]) -> bool:
    return not set(backends.values()) <= _EXACT


def _restore_later(stack: ExitStack, backends: dict[Any, str]) -> None:
    for backend, precision in backends.items():
        if precision not in _EXACT:
            stack.callback(setattr, backend, "fp32_precision", precision)


def _precision_of(owner: object) -> torch.dtype | None:
    tensors = chain(owner.parameters(), owner.buffers()) if isinstance(owner, nn.Module) else ()
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)


def _cast(value: Any, dtype: torch.dtype | None) -> Any:
    if not (isinstance(value, Tensor) and value.is_floating_point()):
        return value
    return value.to(dtype or torch.promote_types(value.dtype, torch.float32))
