"""How close an operator has to come to the float64 reference."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

# Relative errors in the L2 norm. Half-precision inputs have float32 values and half-precision gradients.
VALUE_TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-6, torch.float16: 2e-6}
GRAD_TOLERANCE = {torch.float64: 1e-11, torch.float32: 5e-6, torch.bfloat16: 4.5e-3, torch.float16: 5.5e-4}
DTYPES = list(VALUE_TOLERANCE)


def dtype_id(value: object) -> str | None:
    """Short names of dtypes in test ids."""
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else None


def assert_close(
    what: str, actual: Tensor, expected: Tensor, tolerance: float, at_least: float = 0.0
) -> None:
    """Relative L2 distance, where `at_least` stands in for smaller norms of `expected`.

    Infinities and NaN must agree.
    """
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    actual, expected = (tensor.detach().cpu().double().flatten() for tensor in (actual, expected))
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    difference = torch.where(same, 0.0, actual - expected).nan_to_num(torch.inf, torch.inf, -torch.inf)
    norm = max(torch.where(expected.isfinite(), expected, 0.0).norm().item(), at_least)
    error = difference.norm().item()
    if error > tolerance * norm:
        worst = difference.abs().argsort(descending=True)[:8].tolist()
        elements = [f"  [{i}] {actual[i].item():.9g}, expected {expected[i].item():.9g}" for i in worst]
        raise AssertionError(
            f"{what}: error {error:.3g}, norm {norm:.3g}, tolerance {tolerance:.3g}; of {actual.numel()} "
            "elements the worst, by flat index:\n" + "\n".join(elements)
        )


def upstream_for(value: Tensor) -> Tensor:
    """An upstream gradient that differs from element to element, in sign too."""
    return torch.arange(1, value.numel() + 1, dtype=torch.float64).cos().view(value.shape).to(value)


def value_and_grads(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], needs: Sequence[bool] | None = None
) -> tuple[Tensor, list[Tensor | None]]:
    """The value and its gradients under `upstream_for`, None for tensors that need none."""
    needs = [True] * len(tensors) if needs is None else needs
    leaves = [tensor.detach().requires_grad_(need) for tensor, need in zip(tensors, needs, strict=True)]
    value = function(*leaves)
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    grads = iter(torch.autograd.grad(value, wanted, upstream_for(value)))
    return value.detach(), [next(grads) if need else None for need in needs]


def check_against_reference(
    operator: Callable[..., Tensor],
    reference: Callable[..., Tensor],
    tensors: dict[str, Tensor],
    *,
    needs: Sequence[bool] | None = None,
    value_tolerance: float | None = None,
    grad_tolerance: float | None = None,
    grad_at_least: float = 0.0,
    **options: object,
) -> None:
    """Value and gradients against the reference of the same numbers in float64."""
    names, inputs = list(tensors), list(tensors.values())
    dtype = inputs[0].dtype
    value, grads = value_and_grads(lambda *tensors: operator(*tensors, **options), inputs, needs)
    expected, expected_grads = value_and_grads(
        lambda *tensors: reference(*tensors, **options), [tensor.double() for tensor in inputs], needs
    )
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_close("value", value, expected, value_tolerance or VALUE_TOLERANCE[dtype], at_least=1.0)
    for name, grad, expected_grad, tensor in zip(names, grads, expected_grads, inputs, strict=True):
        if grad is None:
            continue
        assert grad.dtype == tensor.dtype
        assert_close(
            f"gradient of {name}", grad, expected_grad, grad_tolerance or GRAD_TOLERANCE[dtype], grad_at_least
        )


def assert_same_bits(function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> None:
    """Two runs give the same value and gradients."""
    (value, grads), (again, grads_again) = (value_and_grads(function, tensors) for _ in range(2))
    assert torch.equal(value, again)
    assert all(torch.equal(*pair) for pair in zip(grads, grads_again, strict=True))


def assert_meta_results(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], meta: Sequence[Tensor]
) -> None:
    """Meta tensors give values and gradients of the shapes and dtypes that real tensors give."""
    value, grads = value_and_grads(function, tensors)
    meta_value, meta_grads = value_and_grads(function, meta)
    for result, expected in zip((meta_value, *meta_grads), (value, *grads), strict=True):
        assert result.is_meta
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    enabled = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled)


# How a tensor may lie in memory. Each function returns the same values at other addresses.


def transposed(tensor: Tensor) -> Tensor:
    """The last dimension varies slowest."""
    return tensor.movedim(-1, 0).contiguous().movedim(0, -1)


def strided(tensor: Tensor) -> Tensor:
    """Every second element of each row."""
    return torch.stack([tensor, torch.full_like(tensor, torch.nan)], -1).flatten(-2)[..., ::2]


def offset(tensor: Tensor) -> Tensor:
    """Starts one element into its storage: not aligned to anything but its elements."""
    storage = tensor.new_full((tensor.numel() + 1,), torch.nan)
    return storage[1:].view(tensor.shape).copy_(tensor)


LAYOUTS = {"transposed": transposed, "strided": strided, "offset": offset}
