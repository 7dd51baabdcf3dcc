"""Stops a training that has left the numbers."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from vtadl.errors import DivergenceError
from vtadl.model.loss import LossTerms


def require_finite(terms: LossTerms, step: int) -> None:
    """Raises DivergenceError, which names the terms at fault, unless the loss is finite."""
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


class FiniteWeights(Callback):
    """Keeps weights that are no numbers out of checkpoints: the last one stays good."""

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for name, parameter in pl_module.named_parameters():
            if not torch.isfinite(parameter).all():
                raise DivergenceError(
                    f"after epoch {trainer.current_epoch} the weights {name} are not finite"
                )
