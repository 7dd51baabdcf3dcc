"""Training in two processes on the CPU."""

import csv
import os
import subprocess
import sys

import pytest
import torch

from vtadl.cli import main


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def fit_in_one_and_in_two(model, folder):
    """Runs `vtadl fit` in one process and in two, with the same images in a step."""
    counts = {"train_count": 32, "val_count": 10, "test_count": 12}
    options = [
        *(f"--model.{name}={size}" for name, size in model.items()),
        *(f"--data.{name}={count}" for name, count in counts.items()),
        *("--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false"),
    ]
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=4"]
    command = [sys.executable, "-m", "vtadl", "fit", *options, *two, f"--output={folder / 'two'}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert main(["fit", *options, "--data.batch_size=8", f"--output={folder / 'one'}"]) == 0


def test_two_processes_train_like_one(gated, tmp_path):
    fit_in_one_and_in_two({**gated, "noise_std": 0.0, "warmup_steps": 1}, tmp_path)
    for one, two in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        assert one["step"] == two["step"]
        losses = [name for name in one if name.endswith(("_loss", "_nll", "_mse", "_ssim"))]
        assert len(losses) == 8
        for name in losses:
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-5), name


def test_two_processes_fit_like_one_without_training(settled, tmp_path):
    fit_in_one_and_in_two(settled, tmp_path)
    (one,), (two,) = (rows_of(tmp_path / name) for name in ("one", "two"))
    assert {name: float(x) for name, x in two.items()} == pytest.approx({n: float(x) for n, x in one.items()})
    first, second = (
        torch.load(tmp_path / name / "best.ckpt", weights_only=True)["state_dict"] for name in ("one", "two")
    )
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, msg=name)
