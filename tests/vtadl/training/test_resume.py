"""Runs that end early, and are resumed."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vtadl.cli.commands import INTERRUPTED, main
from vtadl.lightning_module import AnomalyDetector


@pytest.fixture
def options(gated):
    counts = {"batch_size": 8, "train_count": 24, "val_count": 8, "test_count": 8}
    return [
        *(f"--model.{name}={size}" for name, size in gated.items()),
        *(f"--data.{name}={count}" for name, count in counts.items()),
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=3",
        "--trainer.enable_progress_bar=false",
    ]


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def test_a_killed_run_is_resumed_with_identical_results(options, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    script = [sys.executable, str(Path(__file__).with_name("fit_until_killed.py"))]
    process = subprocess.run([*script, *options, f"--output={killed}"], capture_output=True, timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert len(rows_of(killed)) == 1

    assert main(["fit", "--resume", str(killed)]) == 0
    assert main(["fit", *options, f"--output={whole}"]) == 0
    assert rows_of(killed) == rows_of(whole)
    weights = [
        torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (killed, whole)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_resumed_run_takes_its_dictionary_from_the_checkpoint(options, tmp_path, monkeypatch):
    assert main(["fit", *options, "--trainer.max_epochs=1", f"--output={tmp_path}"]) == 0
    monkeypatch.setattr("vtadl.lightning_module.fit_dictionary", None)
    assert main(["fit", "--resume", str(tmp_path), "--trainer.max_epochs=2"]) == 0


@pytest.mark.parametrize(("epoch", "hint"), [(0, "no epoch was completed; start again"), (1, "resume")])
def test_an_interrupted_run_can_be_resumed(options, tmp_path, monkeypatch, capsys, epoch, hint):
    step = AnomalyDetector.training_step

    def interrupt(self, batch, batch_idx):
        if self.current_epoch == epoch:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(AnomalyDetector, "training_step", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    assert main(["fit", *options, f"--output={tmp_path}"]) == INTERRUPTED
    signal.signal(signal.SIGINT, handler)  # Lightning ignores further interrupts
    assert f"{hint} with: vtadl fit --resume {tmp_path}" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["fit", "--resume", str(tmp_path)]) == 0
    assert [row["epoch"] for row in rows_of(tmp_path)] == ["0", "1", "2"]


def test_training_stops_early_when_the_validation_loss_stops_falling(options, tmp_path):
    stopping = ["--patience=1", "--trainer.max_epochs=20", "--model.learning_rate=0"]
    assert main(["fit", *options, *stopping, f"--output={tmp_path}"]) == 0
    assert len(rows_of(tmp_path)) == 2
