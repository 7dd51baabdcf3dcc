import math

import lightning as L
import pytest
import torch

from vtadl.cli.commands import DIVERGED, main
from vtadl.data import TextureDefects
from vtadl.errors import DivergenceError
from vtadl.lightning_module import AnomalyDetector
from vtadl.model import LossTerms
from vtadl.model.guard import require_finite
from vtadl.training.callbacks import training_callbacks
from vtadl.training.trainer import AtomicCheckpointIO

DATA = {"image_size": 32, "batch_size": 8, "train_count": 16, "val_count": 8, "test_count": 8}


def terms(**values):
    return LossTerms(**{name: torch.tensor(values.get(name, 1.0)) for name in LossTerms._fields})


def test_a_finite_loss_passes():
    require_finite(terms(), 3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_term_that_is_no_number_is_named(value):
    with pytest.raises(DivergenceError, match=rf"in step 3: nll = {value} \(mse = 1, ssim = 1\)"):
        require_finite(terms(total=value, nll=value), 3)


def diverge_in_epoch(monkeypatch, epoch, damage):
    """Calls `damage` with the detector before the first step of an epoch."""
    step = AnomalyDetector.training_step

    def damaged(self, batch, batch_idx):
        if self.current_epoch == epoch:
            damage(self)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(AnomalyDetector, "training_step", damaged)


def test_a_diverged_run_says_so_and_keeps_its_last_good_checkpoint(gated, tmp_path, monkeypatch, capsys):
    diverge_in_epoch(monkeypatch, 1, lambda self: self.loss.__setattr__("mse_weight", math.nan))
    data = [f"--data.{name}={size}" for name, size in DATA.items() if name != "image_size"]
    sizes = [f"--model.{name}={size}" for name, size in gated.items()]
    run = ["--trainer.accelerator=cpu", "--trainer.max_epochs=3", f"--output={tmp_path}"]
    monkeypatch.setattr("vtadl.model.loss.reconstruction_loss", _weigh_by_nan)
    assert main(["fit", *data, *sizes, *run]) == DIVERGED
    error = capsys.readouterr().err
    assert "the training loss is nan in step 2" in error
    assert f"the last good checkpoint is {tmp_path / 'last.ckpt'}" in error
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 0
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


def _weigh_by_nan(images, reconstruction, mse, **options):
    """The fused loss, which would refuse the weight that this test breaks."""
    from vtadl_ext import reconstruction_loss

    loss, parts = reconstruction_loss(images, reconstruction, mse=1.0, **options)
    return loss * mse, parts


def test_weights_that_are_no_numbers_reach_no_checkpoint(gated, tmp_path, monkeypatch):
    class Spoil(L.Callback):
        def on_validation_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                pl_module.network.bottleneck.bias.data[0] = math.nan

    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        callbacks=[*training_callbacks(tmp_path), Spoil()],
        plugins=[AtomicCheckpointIO()],
    )
    with pytest.raises(DivergenceError, match=r"after epoch 1 the weights network\.bottleneck\.bias"):
        trainer.fit(AnomalyDetector.from_settings(**gated), TextureDefects(**DATA))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0
