"""The optimiser of the network, and the schedule of its learning rate."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from vtadl.common.ranges import require_not_negative, require_positive
from vtadl.model.vtadl import VTADL

_DICTIONARY_RATE = 0.1  # learning rate of the dictionary, relative to that of the other weights


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW and its learning rate.

    Args:
        learning_rate: Largest learning rate.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps until the largest learning rate.

    Raises:
        InputError: If a number is out of its range.
    """

    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50

    def __post_init__(self) -> None:
        require_positive(warmup_steps=self.warmup_steps)
        require_not_negative(learning_rate=self.learning_rate, weight_decay=self.weight_decay)

    def factor(self, step: int, steps: float) -> float:
        """The learning rate of a step, relative to the largest: linear warm-up, then half a cosine.

        A resumed run may take more `steps` than were planned at first.
        """
        progress = min(1.0, step / max(1, steps))
        return min(1.0, (step + 1) / self.warmup_steps) * 0.5 * (1 + math.cos(math.pi * progress))


def make_optimizer(network: VTADL, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW for all trained weights; the components of a dictionary have a small rate and no decay."""
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    dictionary = [p for name, p in trained.items() if name.startswith("dictionary.")]
    others = [p for name, p in trained.items() if not name.startswith("dictionary.")]
    rate = settings.learning_rate
    slow = {"params": dictionary, "lr": _DICTIONARY_RATE * rate, "weight_decay": 0.0}
    groups: list[dict[str, Any]] = [{"params": others}, *([slow] if dictionary else [])]
    return torch.optim.AdamW(groups, rate, weight_decay=settings.weight_decay)
