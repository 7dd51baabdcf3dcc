"""`vtadl fit`, `test` and `report`: Lightning's command-line interface for the detector."""

import json
import os
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from traceback import walk_tb
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from vtadl.checkpoints import (
    cannot_load,
    find_checkpoint,
    read_checkpoint,
    require_known_settings,
    saved_settings,
)
from vtadl.cli.data_modules import data_modules
from vtadl.cli.parsing import LightningParser, one_sentence
from vtadl.cli.run_callbacks import Interruption, SaveSettings
from vtadl.cli.run_folder import make_paths_absolute, require_data_folder, require_no_other_run
from vtadl.cli.trainer_options import check_trainer_options, require_main_address
from vtadl.common.files import atomic_path
from vtadl.common.ranges import require_not_negative, require_positive
from vtadl.data import ImageDataModule
from vtadl.errors import DivergenceError, InputError, UsageError, input_error
from vtadl.lightning_module import AnomalyDetector
from vtadl.model.settings import choose_image_size
from vtadl.training.progress_bar import DetectorProgressBar
from vtadl.training.trainer import GRADIENT_CLIP, make_trainer
from vtadl.training.training_images import require_same_images

# The beginning of `vtadl COMMAND --help`. The parser's own usage would list all options, which fill a screen.
_DATA_HELP = (
    f"NAME is {data_modules()} (embedded photographs, which need no "
    "folder); `--data.help NAME` lists its options."
)
DESCRIPTIONS = {
    "fit": {
        "usage": "vtadl fit [--config NAME_OR_FILE] --data NAME --data.root FOLDER [--output RUN] [options]\n"
        "       vtadl fit --resume RUN",
        "description": "Trains a detector on normal images, or resumes the run in a folder. "
        f"`--backbone NAME` is short for `--model.density.backbone NAME`. {_DATA_HELP}",
    },
    "test": {
        "usage": "vtadl test RUN\n       vtadl test --ckpt FILE --data NAME --data.root FOLDER [options]",
        "description": "Tests the detector of the run in the folder RUN on the test images of that run, or a "
        f"checkpoint on other data. {_DATA_HELP}",
    },
    "report": {
        "usage": "vtadl report RUN\n       vtadl report --ckpt FILE --data NAME --data.root FOLDER [options]",
        "description": "Tests a detector as `vtadl test` does, and writes an HTML page with metrics, curves "
        f"and pictures. {_DATA_HELP}",
    },
}


class DetectorTrainer(L.Trainer):
    """Lightning's trainer: devices, precision, number of epochs and other options of training."""

    def report(self, model: Any, datamodule: Any = None, ckpt_path: str | None = None) -> None:
        """Test a trained detector, and write an HTML page with metrics, curves and pictures."""
        from vtadl.report.page import write_run_report

        page = write_run_report(self, model, datamodule, ckpt_path)
        print(f"report: {page}")


class DetectorCLI(LightningCLI):
    """Fits or tests the detector on any data module of this package.

    The data module gets the `image_size` of the model.
    """

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        loaders = {"train_dataloaders", "val_dataloaders", "dataloaders"}
        skipped = {"model", "datamodule", "weights_only", *loaders}
        return {"fit": skipped, "test": skipped, "report": skipped}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds data, model and trainer in the order in which users need them."""
        parser.add_lightning_class_args(ImageDataModule, "data", subclass_mode=True)
        parser.add_lightning_class_args(AnomalyDetector, "model")
        parser.add_lightning_class_args(DetectorTrainer, "trainer")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="Folder of the run, also given by `-o`, for checkpoints, config.yaml, metrics.csv and "
            "TensorBoard logs, and for the results of `test` and `report`. The default of `fit` is "
            "runs/<date>; that of `test` and `report` is the folder of the checkpoint.",
        )
        parser.add_argument(
            "--patience",
            type=int | None,
            default=20,
            help="Stop training after this number of validations without a smaller loss; there is one "
            "validation per epoch by default. null: never stop early.",
        )
        parser.link_arguments(
            ("model.network.image_size", "model.density.backbone", "model.density.backbone_size"),
            "data.init_args.image_size",
            compute_fn=choose_image_size,
        )
        parser.set_defaults(
            {
                "data": {"class_path": "vtadl.data.TextureDefects"},
                "trainer.gradient_clip_val": GRADIENT_CLIP,
                "trainer.max_epochs": 20,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        command = self.config.subcommand
        settings = self.config[command]
        require_not_negative(patience=settings.patience, seed_everything=settings.seed_everything)
        check_trainer_options(settings.trainer)
        if settings.get("ckpt_path") is not None:
            settings.ckpt_path = str(find_checkpoint(settings.ckpt_path))
            require_known_settings(Path(settings.ckpt_path))
            require_data_folder(settings)
        elif command != "fit":
            raise UsageError(f"nothing to {command}: give the folder of a run, or --ckpt and --data")
        if command != "fit":
            require_positive(limit_test_batches=settings.trainer.limit_test_batches)
        if settings.output is None:
            folder = settings.ckpt_path and Path(settings.ckpt_path).parent
            settings.output = str(
                Path("runs") / time.strftime("%Y-%m-%d-%H%M%S") if command == "fit" else folder
            )
        settings.output = os.path.expanduser(settings.output)

    def before_instantiate_classes(self) -> None:
        """Takes the settings of the model from the checkpoint, as this version understands them."""
        checkpoint = self.config[self.config.subcommand].get("ckpt_path")
        if checkpoint is not None:
            model = saved_settings(read_checkpoint(Path(checkpoint)))
            self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        settings, callbacks = self.config_init[self.subcommand], self.trainer_defaults["callbacks"]
        folder = Path(settings.output)
        make_paths_absolute(self.config[self.subcommand])
        self.save_config_kwargs = {"save_to_log_dir": False, "config_filename": f"{self.subcommand}.yaml"}
        if settings.trainer.enable_progress_bar is not False:
            callbacks.append(DetectorProgressBar())
        logger: Any = False
        if self.subcommand == "fit":
            require_no_other_run(folder, settings.ckpt_path)
            self.save_config_kwargs["config_filename"] = "config.yaml"
            self.trainer_class = partial(
                make_trainer, folder, trainer_class=DetectorTrainer, patience=settings.patience
            )
            if settings.trainer.logger is not False:
                logger = TensorBoardLogger(folder, name="", version="")
        else:
            kwargs["enable_checkpointing"] = False
        if settings.trainer.logger in (None, True, False):
            kwargs["logger"] = logger
        trainer = super().instantiate_trainer(default_root_dir=folder, **kwargs)
        require_main_address(trainer)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except RuntimeError as error:
            if not str(error).startswith("Error(s) in loading state_dict"):
                raise
            raise cannot_load(self.config_init[subcommand].ckpt_path, error) from error

    def before_fit(self) -> None:
        checkpoint = self.config_init[self.subcommand].ckpt_path
        if checkpoint is not None:  # the check comes before anything is written
            run = str(Path(checkpoint).parent)
            require_same_images(self.datamodule, read_checkpoint(Path(checkpoint)), run)
            self.model.resumes = True
            if not self.model.trains:
                print(f"{run} is complete: a run without training ends with its first checkpoint")
                self.trainer.fit_loop.max_epochs = 1

    def after_fit(self) -> None:
        checkpoint = Path(self.config_init[self.subcommand].output) / "best.ckpt"
        if not checkpoint.exists():
            raise UsageError(
                "nothing was trained: max_epochs, max_steps, max_time or limit_train_batches allow no step"
            )
        print(f"checkpoint: {checkpoint}")
        print(*self.model.calibration.sentences(), sep="\n")

    def after_test(self) -> None:
        if self.trainer.is_global_zero:
            Console().print(self.model.evaluation)
            results = Path(self.trainer.default_root_dir) / "evaluation.json"
            with atomic_path(results) as path:
                path.write_text(json.dumps(self.model.evaluation.as_dict(), indent=2) + "\n")
            print(f"metrics, intervals and curves: {results}")


def run(arguments: Sequence[str]) -> None:
    """Runs `fit`, `test` or `report` with its options."""
    # Lightning advises against `args`, which is needed here because `main` has changed the arguments.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    # The sampler repeats samples so that all processes get equally many; the detector ignores repetitions.
    warnings.filterwarnings("ignore", message="Using `DistributedSampler` with the dataloaders")
    # A backbone is frozen, and therefore in evaluation mode while the detector is trained.
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
    command, *options = arguments
    if command == "test":
        options = ["--verbose=false", *options]  # `after_test` prints the results
    interruption = Interruption()
    try:
        DetectorCLI(
            AnomalyDetector,
            ImageDataModule,
            trainer_class=DetectorTrainer,
            parser_class=LightningParser,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=SaveSettings,
            trainer_defaults={"callbacks": [interruption]},
            parser_kwargs={"prog": "vtadl", **DESCRIPTIONS},
            args=[command, *options],
        )
    except DivergenceError as error:
        raise DivergenceError(f"{error}{interruption.hint}") from error
    except OSError:
        raise
    except Exception as error:
        if input_error(error) or not raised_by_lightning(error):
            raise
        why = one_sentence(str(error)) or type(error).__name__
        names_option = isinstance(error, MisconfigurationException)
        raise InputError(why if names_option else f"the trainer's options are invalid: {why}") from error
    except SystemExit:
        if isinstance(interruption.exception, KeyboardInterrupt):  # Lightning has turned it into an exit
            raise KeyboardInterrupt(interruption.hint) from None
        raise


def raised_by_lightning(error: BaseException) -> bool:
    """Returns whether Lightning, or a library that it called, raised an error, rather than this package."""
    if "in DataLoader worker process" in str(error):  # a data set of this package raised it
        return False
    packages = [
        frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in walk_tb(error.__traceback__)
    ]
    while packages and packages[-1] not in ("lightning", "vtadl", "vtadl_ext"):
        packages.pop()
    return packages[-1:] == ["lightning"]
