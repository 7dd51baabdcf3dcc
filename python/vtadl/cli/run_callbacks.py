"""The callbacks by which the command line saves the settings of a run, and says how to resume it."""

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import SaveConfigCallback

from vtadl.cli.run_folder import remove_logs


class SaveSettings(SaveConfigCallback):
    """Saves the settings to the folder of the run, whatever the folder of the logger is."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        path = Path(trainer.default_root_dir) / self.config_filename
        path.parent.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, str(path), skip_none=False, overwrite=True)


class Interruption(Callback):
    """Stores the exception that ended a run, and tells the user how to resume the run."""

    exception: BaseException | None = None
    hint = ""

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self.exception = exception
        folder = Path(trainer.default_root_dir)
        checkpoint = folder / "last.ckpt"
        if not (folder / "config.yaml").exists():
            remove_logs(folder)  # the run ended before its first step
        elif checkpoint.exists():
            self.hint = (
                f"; the last good checkpoint is {checkpoint}; resume with: vtadl fit --resume {folder}"
            )
        else:
            self.hint = f"; no epoch was completed; start again with: vtadl fit --resume {folder}"
