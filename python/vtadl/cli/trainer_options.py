"""Checks of trainer options that Lightning accepts, but with which a run would fail later."""

import os

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.plugins.environments import LightningEnvironment

from vtadl.common.ranges import require_at_most, require_not_negative, require_positive
from vtadl.errors import InputError, UsageError

# Options with which Lightning writes no run to --output, and what to use instead.
_WITHOUT_RUN = {
    "fast_dev_run": "for a quick trial, use --trainer.max_steps",
    "barebones": "use --trainer.enable_progress_bar and --trainer.logger",
    "default_root_dir": "use --output",
}


def check_trainer_options(options: Namespace) -> None:
    """Checks the options of `--trainer`.

    Raises:
        InputError: If a number is out of its range.
        UsageError: If an option would write no run to the output folder.
    """
    require_not_negative(overfit_batches=options.overfit_batches)
    require_positive(accumulate_grad_batches=options.accumulate_grad_batches)
    require_positive(check_val_every_n_epoch=options.check_val_every_n_epoch)
    if isinstance(options.val_check_interval, int | float):
        require_positive(val_check_interval=options.val_check_interval)
    if str(options.devices).isdigit():  # each device is a process
        require_at_most(2 * (os.cpu_count() or 1), devices=int(options.devices))
    for name, alternative in _WITHOUT_RUN.items():
        if options[name]:
            raise UsageError(
                f"trainer.{name} is {options[name]}, with which no run is written; {alternative}"
            )


def require_main_address(trainer: L.Trainer) -> None:
    """Raises InputError if the machines of a run have no address by which to find one another.

    Without this check the processes would wait half an hour before they fail.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    is_known = "MASTER_ADDR" in os.environ or not isinstance(environment, LightningEnvironment)
    if trainer.num_nodes > 1 and not is_known:
        raise InputError(
            f"num_nodes is {trainer.num_nodes}, but the environment variable MASTER_ADDR, the address of the "
            "first machine, is not set"
        )
