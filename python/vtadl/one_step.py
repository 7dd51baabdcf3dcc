"""Lightning's hooks of a detector that trains nothing."""

from abc import abstractmethod
from collections.abc import Callable
from itertools import islice
from typing import Any

import lightning as L
from torch import Tensor


class OneStepModule(L.LightningModule):
    """A module for which any trainer takes a single step if there is nothing to train.

    The step changes nothing. Lightning needs one to validate, to call its callbacks and to save checkpoints,
    all of which happens as after an epoch. `max_epochs` has no effect.
    """

    _needs_gradient = False

    @property
    @abstractmethod
    def trains(self) -> bool:
        """Whether there is anything to train."""

    def setup(self, stage: str) -> None:
        if stage == "fit" and not self.trains:
            self.trainer.num_sanity_val_steps = 0  # the validation follows at once
            # In several processes PyTorch refuses a module without any gradient.
            self._needs_gradient = self.trainer.world_size > 1
            self._require_gradient(self._needs_gradient)

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        keys = super().load_state_dict(*arguments, **options)
        if self._needs_gradient:  # the parameters may be new ones
            self._require_gradient(True)
        return keys

    def on_fit_end(self) -> None:
        if not self.trains:
            self._needs_gradient = False
            self._require_gradient(False)

    def loss_of_nothing(self) -> Tensor:
        """The loss of the step that changes nothing: 0, with gradients of 0."""
        return next(self.parameters()).flatten()[:0].sum()

    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        if self.trains or loss.requires_grad:
            super().backward(loss, *arguments, **options)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Takes a step of the optimiser; if nothing is trained, there is none, and training ends."""
        if self.trains or optimizer_closure is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            optimizer_closure()
            self.trainer.should_stop = True

    def _require_gradient(self, required: bool) -> None:
        """Makes one parameter require a gradient or not; there may be none before a checkpoint is loaded."""
        for parameter in islice(self.parameters(), 1):
            parameter.requires_grad_(required)
