"""The windows of SSIM."""

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from vtadl_ext._checks import check_number, checked_numbers, items_of

_NAMES = ("gaussian", "uniform")
MAX_KERNEL_TAPS = 31  # SsimTaps in csrc/ssim/ssim.h


def window_taps(window: str, size: int, sigma: float) -> list[float]:
    """The taps of a one-dimensional window in double precision. Their sum is 1."""
    if window == "uniform":
        return [1 / size] * size
    distances = [(2 * i - size + 1) / 2 / sigma for i in range(size)]
    # torch.compile cannot take powers of negative numbers where sigma varies, hence the product.
    return _normalised([math.exp(-(distance * distance) / 2) for distance in distances])


def axis_taps(window: Any, size: Any, sigma: Any, axes: int) -> tuple[list[float], ...]:
    """The taps along each axis, from what :func:`checked_window` returns."""
    if isinstance(window, str):
        if not (isinstance(size, tuple) or isinstance(sigma, tuple)):
            return (window_taps(window, int(size), float(sigma)),) * axes
        sizes, sigmas = _for_axes("window_size", size, axes), _for_axes("window_sigma", sigma, axes)
        pairs = zip(sizes, sigmas, strict=True)
        return tuple(window_taps(window, int(size), float(sigma)) for size, sigma in pairs)
    each = _for_axes("window", window, axes) if isinstance(window[0], tuple) else (window,) * axes
    return tuple(map(_normalised, each))


def checked_window(window: Any, size: Any, sigma: Any) -> tuple[Any, Any, Any]:
    """`window`, `window_size` and `window_sigma` with sequences as tuples, once they are checked."""
    return (
        window if isinstance(window, str) and window in _NAMES else _checked_taps(window),
        _checked_each("window_size", size, _check_size),
        _checked_each("window_sigma", sigma, check_number),
    )


def _normalised(weights: Sequence[float]) -> list[float]:
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _for_axes(name: str, value: Any, axes: int) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        return (value,) * axes
    if len(value) != axes:
        raise ValueError(f"{name} must hold one for each of {axes} axes, got {len(value)}")
    return value


def _checked_taps(window: Any) -> tuple[Any, ...]:
    """The taps of all axes, or a tuple of those of each axis."""
    items = None if isinstance(window, str) else items_of(window)
    if not items or any(isinstance(item, str) for item in items):
        raise ValueError(f"window must be 'gaussian', 'uniform' or its taps, got {window!r}")
    if items_of(items[0]) is None:
        return _checked_axis("window", items)
    return tuple(_checked_axis(f"window[{i}]", axis) for i, axis in enumerate(items))


def _checked_axis(name: str, taps: Any) -> tuple[float, ...]:
    numbers = checked_numbers(name, taps)
    if len(numbers) % 2 == 0 or len(numbers) < 3:
        raise ValueError(f"{name} must have an odd number of taps, 3 or more, got {len(numbers)}")
    if numbers != numbers[::-1]:
        raise ValueError(f"{name} must be symmetric, got {taps!r}")
    return numbers


def _checked_each(name: str, value: Any, check: Callable[[str, Any], None]) -> Any:
    """The value, or a tuple of the values of each axis."""
    items = None if isinstance(value, str) else items_of(value)
    if items is None:
        check(name, value)
        return value
    for i, item in enumerate(items):
        check(f"{name}[{i}]", item)
    return tuple(items)


def _check_size(name: str, size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, Integral):
        raise TypeError(f"{name} must be an integer, got {size!r}")
    if size % 2 == 0 or size < 3:
        raise ValueError(f"{name} must be odd and at least 3, got {size}")
