"""Ways to choose experts, or the weights of their sum, without labels."""

from collections.abc import Callable

import torch
from torch import Tensor

from vtadl.tuning.ensemble import Quality, select_bagged_ensemble, select_ensemble

PROCEDURES: dict[str, Callable[[Tensor, Quality], Tensor]] = {
    "best expert": lambda scores, quality: select_ensemble(scores, quality, rounds=1),
    "one selection": select_ensemble,
    "bagged selection": select_bagged_ensemble,
    "equal weights": lambda scores, quality: torch.full((len(scores),), 1 / len(scores)),
}
