"""`vtadl fit`, `test` and `report`: Lightning's own command line for the detector."""

import json
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from traceback import walk_tb
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from vtadl.checkpoints import find_checkpoint, read_checkpoint
from vtadl.cli.parsing import LightningParser, one_sentence
from vtadl.common.files import atomic_path
from vtadl.common.ranges import require_at_most, require_not_negative, require_positive
from vtadl.data import ImageDataModule, MNISTDigit, MVTecAD, TextureDefects
from vtadl.errors import DivergenceError, InputError, UsageError, input_error
from vtadl.lightning_module import AnomalyDetector
from vtadl.training.trainer import GRADIENT_CLIP, make_trainer
from vtadl.training.training_images import remember_places, require_place, require_same_images

__all__ = ["MNISTDigit", "MVTecAD", "TextureDefects", "expand_run_folders", "run"]


# What `vtadl COMMAND --help` begins with. A list of all options would fill a screen before it.
DESCRIPTIONS = {
    "fit": {
        "usage": "vtadl fit [--config NAME_OR_FILE] --data NAME --data.root FOLDER [--output RUN] [options]\n"
        "       vtadl fit --resume RUN",
        "description": "Trains a detector on normal images. `--data.help NAME` lists options of the data.",
    },
    "test": {
        "usage": "vtadl test RUN\n       vtadl test --ckpt FILE --data NAME --data.root FOLDER [options]",
        "description": "Tests a trained detector on the test images of its run, or on other ones.",
    },
    "report": {
        "usage": "vtadl report RUN\n       vtadl report --ckpt FILE --data NAME --data.root FOLDER [options]",
        "description": "Tests a trained detector, and writes a page with figures, curves and pictures.",
    },
}


# Options of Lightning's trainer that would leave no run in --output, and what to take instead.
LEAVES_NO_RUN = {
    "fast_dev_run": "for a quick trial, take --trainer.max_steps",
    "barebones": "take --trainer.enable_progress_bar and --trainer.logger",
    "default_root_dir": "take --output",
}


class DetectorTrainer(L.Trainer):
    """Everything that Lightning's trainer can do: devices, precision, length of the training."""

    def report(self, model: Any, datamodule: Any = None, ckpt_path: str | None = None) -> None:
        """Test a trained detector, and write a page with figures, curves and pictures."""
        from vtadl.report.page import write_run_report

        page = write_run_report(self, model, datamodule, ckpt_path)
        print(f"report: {page}")


class DetectorCLI(LightningCLI):
    """Fits or tests the detector on any data module of this package; sizes images as the model wants."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        loaders = {"train_dataloaders", "val_dataloaders", "dataloaders"}
        skipped = {"model", "datamodule", "weights_only", *loaders}
        return {"fit": skipped, "test": skipped, "report": skipped}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what a user sets most often first."""
        parser.add_lightning_class_args(ImageDataModule, "data", subclass_mode=True)
        parser.add_lightning_class_args(AnomalyDetector, "model")
        parser.add_lightning_class_args(DetectorTrainer, "trainer")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="Folder of the run: checkpoints, config.yaml, metrics.csv, logs for TensorBoard, and what "
            "test and report write. By default runs/<date>, or the checkpoint's folder.",
        )
        parser.add_argument(
            "--patience",
            type=int | None,
            default=20,
            help="Stop after so many validations, one in an epoch, without a smaller loss; null for never.",
        )
        parser.link_arguments("model.image_size", "data.init_args.image_size")
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
        _require_ranges(settings.trainer)
        if settings.get("ckpt_path") is not None:
            settings.ckpt_path = str(find_checkpoint(settings.ckpt_path))
            read_checkpoint(Path(settings.ckpt_path))
            require_place(settings)
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

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        settings, callbacks = self.config_init[self.subcommand], self.trainer_defaults["callbacks"]
        folder = Path(settings.output)
        remember_places(self.config[self.subcommand])
        self.save_config_kwargs = {"save_to_log_dir": False, "config_filename": f"{self.subcommand}.yaml"}
        if settings.trainer.enable_progress_bar is not False:
            callbacks.append(RichProgressBar())
        logger: Any = False
        if self.subcommand == "fit":
            _refuse_another_run(folder, settings.ckpt_path)
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
        _require_reachable_nodes(trainer)
        return trainer

    def before_fit(self) -> None:
        checkpoint = self.config_init[self.subcommand].ckpt_path
        if checkpoint is not None:  # before anything is written
            run = str(Path(checkpoint).parent)
            require_same_images(self.datamodule, read_checkpoint(Path(checkpoint)), run)

    def after_fit(self) -> None:
        checkpoint = Path(self.config_init[self.subcommand].output) / "best.ckpt"
        if not checkpoint.exists():
            raise UsageError(
                "nothing was trained: max_epochs, max_steps, max_time or limit_train_batches leave no step"
            )
        print(f"checkpoint: {checkpoint}")
        print(self.model.calibration.sentence())

    def after_test(self) -> None:
        if self.trainer.is_global_zero:
            Console().print(self.model.evaluation)
            figures = Path(self.trainer.default_root_dir) / "evaluation.json"
            with atomic_path(figures) as path:
                path.write_text(json.dumps(self.model.evaluation.as_dict(), indent=2) + "\n")
            print(f"figures, intervals and curves: {figures}")


class SaveSettings(SaveConfigCallback):
    """Saves the settings in the run's folder, wherever a logger writes."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        path = Path(trainer.default_root_dir) / self.config_filename
        path.parent.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, str(path), skip_none=False, overwrite=True)


class Interruption(Callback):
    """Remembers what ended a run early, and where the run is kept."""

    exception: BaseException | None = None
    hint = ""

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self.exception = exception
        folder = Path(trainer.default_root_dir)
        checkpoint = folder / "last.ckpt"
        if not (folder / "config.yaml").exists():
            _remove_logs(folder)
        elif checkpoint.exists():
            self.hint = f"; the last good checkpoint is {checkpoint}; go on with: vtadl fit --resume {folder}"
        else:
            self.hint = f"; no epoch was whole; start again with: vtadl fit --resume {folder}"


def run(arguments: Sequence[str]) -> None:
    """Runs `fit`, `test` or `report` with its options."""
    # The arguments are passed on because main has replaced the names of packaged settings by paths.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    # Of the samples that the sampler repeats to give every process as many, the detector's test takes none.
    warnings.filterwarnings("ignore", message="Using `DistributedSampler` with the dataloaders")
    command, *options = arguments
    if command == "test":
        options = ["--verbose=false", *options]  # `after_test` prints more
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
        raise InputError(why if names_option else f"trainer cannot be set so: {why}") from error
    except SystemExit:
        if isinstance(interruption.exception, KeyboardInterrupt):  # Lightning makes it an exit
            raise KeyboardInterrupt(interruption.hint) from None
        raise


def raised_by_lightning(error: BaseException) -> bool:
    """Whether Lightning, or a library that it called, refuses what it was given: none of our code ran."""
    if "in DataLoader worker process" in str(error):  # where our code ran
        return False
    packages = [
        frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in walk_tb(error.__traceback__)
    ]
    while packages and packages[-1] not in ("lightning", "vtadl", "vtadl_ext"):
        packages.pop()
    return packages[-1:] == ["lightning"]


def expand_run_folders(arguments: Sequence[str]) -> list[str]:
    """Replaces a run's folder, in `fit --resume FOLDER` or `test FOLDER`, by its settings and checkpoint."""
    command, *options = arguments
    expanded = [command]
    while options:
        option = options.pop(0)
        name, equals, value = option.partition("=")
        if name == "--ckpt":
            expanded.append(f"--ckpt_path{equals}{value}")
        elif command == "fit" and name == "--resume":
            expanded += _settings_of_run(value if equals else options.pop(0) if options else "", "last.ckpt")
            _refuse_other_models([*expanded, *options])
        elif command != "fit" and len(expanded) == 1 and not option.startswith("-"):
            expanded += [*_settings_of_run(option, "best.ckpt"), "--trainer.callbacks=null"]  # the training's
        else:
            expanded.append(option)
    return expanded


def _refuse_other_models(options: Sequence[str]) -> None:
    """A checkpoint brings the settings of its model; those of the command line would not count."""
    for option in options:
        if option.startswith("--model"):
            raise UsageError(f"{option.partition('=')[0]} cannot change in a run that is resumed: train anew")


def _settings_of_run(folder: str, checkpoint: str) -> list[str]:
    if not folder:
        raise UsageError("--resume takes the folder of a run")
    folder = os.path.expanduser(folder)
    settings, path = Path(folder) / "config.yaml", Path(folder) / checkpoint
    if not settings.exists():
        raise InputError(f"there is no run in {folder}: its config.yaml is missing")
    # A run that was stopped in its first epoch starts anew.
    return [
        "--config",
        str(settings),
        f"--ckpt_path={path if path.exists() else 'null'}",
        f"--output={folder}",
    ]


def _require_ranges(trainer: Namespace) -> None:
    """Of what Lightning takes and fails by later."""
    require_not_negative(overfit_batches=trainer.overfit_batches)
    require_positive(accumulate_grad_batches=trainer.accumulate_grad_batches)
    require_positive(check_val_every_n_epoch=trainer.check_val_every_n_epoch)
    if isinstance(trainer.val_check_interval, int | float):
        require_positive(val_check_interval=trainer.val_check_interval)
    if str(trainer.devices).isdigit():  # each is a process
        require_at_most(2 * (os.cpu_count() or 1), devices=int(trainer.devices))
    for name, instead in LEAVES_NO_RUN.items():
        if trainer[name]:
            raise UsageError(f"trainer.{name} is {trainer[name]}, and leaves no run; {instead}")


def _require_reachable_nodes(trainer: L.Trainer) -> None:
    """Processes would wait half an hour for machines that do not know of each other."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    knows = "MASTER_ADDR" in os.environ or not isinstance(environment, LightningEnvironment)
    if trainer.num_nodes > 1 and not knows:
        raise InputError(
            f"num_nodes is {trainer.num_nodes}, but MASTER_ADDR does not say where the first one is"
        )


def _remove_logs(folder: Path) -> None:
    """Of a run that ended before it began, Lightning leaves this process's log, maybe in a new folder."""
    with suppress(OSError):  # where there is something else in it
        for log in folder.glob(f"events.out.tfevents.*.{os.getpid()}.*"):
            log.unlink()
        folder.rmdir()


def _refuse_another_run(folder: Path, checkpoint: str | None) -> None:
    if (folder / "last.ckpt").exists() and checkpoint is None:
        raise InputError(
            f"{folder} holds a run already: go on with vtadl fit --resume {folder}, or take another --output"
        )
