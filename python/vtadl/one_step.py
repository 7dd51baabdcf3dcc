"""Lightning's hooks of a detector that trains nothing."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import lightning as L
from torch import Tensor, nn


class OneStepModule(L.LightningModule):
    """A module for which any trainer takes a single step if there is nothing to train.

    The step changes nothing. Lightning needs one to validate, to call its callbacks and to save checkpoints,
    all of which happens as after an epoch. `max_epochs` has no effect.
    """

    @property
    @abstractmethod
    def trains(self) -> bool:
        """Whether there is anything to train."""

    def setup(self, stage: str) -> None:
        if stage == "fit" and not self.trains:
            self.trainer.num_sanity_val_steps = 0  # the validation follows at once
            # In several processes PyTorch refuses a module without any gradient.
            self._any_parameter().requires_grad_(self.trainer.world_size > 1)

    def on_fit_end(self) -> None:
        if not self.trains:
            self._any_parameter().requires_grad_(False)

    def loss_of_nothing(self) -> Tensor:
        """The loss of the step that changes nothing: 0, with gradients of 0."""
        return self._any_parameter().flatten()[:0].sum()

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

    def _any_parameter(self) -> nn.Parameter:
        return next(self.parameters())
