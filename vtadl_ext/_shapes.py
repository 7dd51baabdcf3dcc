"""How shapes broadcast, and how the vmap rules lay out a batch."""

import torch
from torch import Tensor


def broadcast_shapes(first: torch.Size, *others: torch.Size) -> torch.Size:
    """torch.broadcast_shapes, which takes as long as a small kernel, where the shapes differ."""
    # Lengths come first: a trace would remember a comparison of sizes at different places.
    if all(len(other) == len(first) and other == first for other in others):
        return first
    return torch.broadcast_shapes(first, *others)  # type: ignore[no-any-return]


def batch_first(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def align(tensor: Tensor, batch: int, rank: int, event_dims: int) -> Tensor:
    """[batch, *, event] with `rank` dimensions for `*`, which broadcasting aligns from the right."""
    missing = rank - (tensor.dim() - 1 - event_dims)
    return tensor.reshape(batch, *[1] * missing, *tensor.shape[1:])


def with_batch_dims(
    grads: tuple[Tensor, ...], needed: tuple[bool, ...], batch_size: int
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Gradients and their batch dimensions, which empty gradients that are not needed get too."""
    batched = (grad if need else grad.expand(batch_size, 0) for grad, need in zip(grads, needed, strict=True))
    return tuple(batched), (0,) * len(grads)
