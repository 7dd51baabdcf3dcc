"""`vtadl fit` and `vtadl test`: Lightning's own command line for the detector."""

import warnings
from collections.abc import Sequence
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from vtadl.data import ImageDataModule, MNISTDigit, MVTecFolder, TextureDefects
from vtadl.engine import AnomalyDetector
from vtadl.errors import InputError
from vtadl.training import require_checkpoint, training_callbacks

__all__ = ["MNISTDigit", "MVTecFolder", "TextureDefects", "run"]


class DetectorCLI(LightningCLI):
    """Fits or tests the detector on any data module of this package; sizes images as the model wants."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        skipped = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"}
        return {"fit": skipped, "test": skipped}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model.image_size", "data.init_args.image_size")
        parser.set_defaults(
            {
                "data": {"class_path": "vtadl.data.TextureDefects"},
                "trainer.plugins": [{"class_path": "vtadl.files.AtomicCheckpointIO"}],
                "trainer.gradient_clip_val": 1.0,
                "trainer.max_epochs": 20,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path not in (None, "best", "last"):
            require_checkpoint(path)

    def after_fit(self) -> None:
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                print(f"checkpoint: {callback.best_model_path}")


def run(arguments: Sequence[str]) -> None:
    """Runs `fit` or `test` with its options."""
    # The arguments are passed on because main has replaced the names of packaged settings by paths.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    callbacks = training_callbacks() if arguments[0] == "fit" else [RichProgressBar()]
    try:
        DetectorCLI(
            AnomalyDetector,
            ImageDataModule,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            trainer_defaults={"callbacks": callbacks},
            parser_kwargs={"prog": "vtadl"},
            args=list(arguments),
        )
    except MisconfigurationException as error:
        raise InputError(str(error)) from error
