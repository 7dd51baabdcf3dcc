"""A test in two processes gives the metrics of a test in one."""

import os
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from vtadl.cli import main
from vtadl.data import rank_sample_count


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_every_sample_belongs_to_exactly_one_rank(count):
    data, seen = TensorDataset(torch.arange(count)), []
    for rank in range(3):
        sampler = DistributedSampler(data, num_replicas=3, rank=rank, shuffle=False)
        loader = DataLoader(data, batch_size=2, sampler=sampler)
        samples = torch.cat([batch for (batch,) in loader]).tolist()
        seen += samples[: rank_sample_count(loader)]
    assert sorted(seen) == list(range(count))
    assert rank_sample_count(DataLoader(data)) == count


def rows(text):
    """Returns the rows of the printed tables."""
    return [line for line in text.splitlines() if line.startswith("│")]


def test_two_processes_print_the_metrics_of_one(trained, tiny, category, tmp_path, capsys):
    (category / "test/good/003.png").unlink()  # the number of images is odd
    folder = ["--data=MVTecAD", f"--data.root={category}", "--data.workers=0", "--data.batch_size=2"]
    runs = ["--trainer.accelerator=cpu", f"--output={tmp_path}"]
    sizes = [f"--model.{name}={size}" for name, size in tiny.items()]
    test = ["test", *folder, *runs, *sizes, f"--ckpt_path={trained / 'best.ckpt'}"]
    assert main(test) == 0
    expected = rows(capsys.readouterr().out)
    assert len(expected) == 8 + 1
    two = [sys.executable, "-m", "vtadl", *test, "--trainer.devices=2", "--trainer.strategy=ddp"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    printed = subprocess.run(two, capture_output=True, text=True, timeout=180, check=True, env=environment)
    assert rows(printed.stdout) == expected
