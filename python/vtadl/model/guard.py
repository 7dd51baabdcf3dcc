"""Checks that stop a training: a loss that is not finite, and a network too large for the memory."""

import os
from collections.abc import Callable

import torch
from torch import nn

from vtadl.errors import DivergenceError, InputError
from vtadl.model.loss import LossTerms


def require_finite(terms: LossTerms, step: int) -> None:
    """Raises DivergenceError, which names the terms that are not finite, unless the loss is finite."""
    if torch.isfinite(terms.total):
        return
    values = {name: value.item() for name, value in terms._asdict().items() if name != "total"}
    culprits = [name for name, value in values.items() if not torch.isfinite(torch.tensor(value))]
    fault = " and ".join(f"{name} = {values[name]}" for name in culprits)
    rest = ", ".join(f"{name} = {value:.4g}" for name, value in values.items() if name not in culprits)
    raise DivergenceError(
        f"the training loss is {terms.total.item()} in step {step}: {fault or 'its terms are finite'}"
        + (f" ({rest})" if rest else "")
    )


def require_room(build: Callable[[], nn.Module]) -> None:
    """Raises InputError unless the memory is large enough to train the module that `build` makes."""
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in build().parameters())
    needed = 4 * 4 * weights  # bytes of weights, gradients and the two moments of AdamW
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise InputError(
            f"a network of these sizes has {weights:.3g} weights, whose training takes {needed / 1e9:.3g} GB "
            f"of memory; there are {memory / 1e9:.3g}"
        )
