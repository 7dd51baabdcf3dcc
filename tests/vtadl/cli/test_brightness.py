"""The commands say when images are lit unlike those of training."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vtadl.cli import main

SENTENCE = "of 4 images lies outside that of training"


@pytest.fixture
def dark(untrained, tmp_path):
    """Returns a copy of the test data in half of the light."""
    root = shutil.copytree(untrained / "parts", tmp_path / "dark")
    for path in root.glob("test/*/*"):
        Image.fromarray((np.asarray(Image.open(path)) // 2).astype(np.uint8)).save(path)
    return root


def test_a_test_says_that_normal_images_are_darker_than_in_training(untrained, dark, tmp_path, capsys):
    assert main(["test", str(untrained), f"--data.root={dark}", f"--output={tmp_path}"]) == 0
    assert f"the brightness of 4 {SENTENCE}" in " ".join(capsys.readouterr().out.split())
    (note,) = json.loads((tmp_path / "evaluation.json").read_text())["notes"]
    assert f"the brightness of 4 {SENTENCE}" in note


def test_a_report_says_so_as_well(untrained, dark, tmp_path):
    assert main(["report", str(untrained), f"--data.root={dark}", f"--output={tmp_path}"]) == 0
    assert f"<p>The brightness of 4 {SENTENCE}" in (tmp_path / "report.html").read_text()


def test_a_prediction_says_so_of_the_images_that_look_normal(untrained, dark, tmp_path, capsys):
    images = [str(dark / "test"), "-o", str(tmp_path / "out")]
    assert main(["predict", "--ckpt", str(untrained), *images]) == 0
    printed = capsys.readouterr()
    assert "8 images, 4 of them anomalous" in printed.out  # equal lighting leaves the defects alone
    assert f"vtadl: the brightness of 4 {SENTENCE}" in printed.err


def test_nothing_is_said_of_images_in_the_light_of_training(untrained, tmp_path, capsys):
    assert main(["test", str(untrained), f"--output={tmp_path}"]) == 0
    images = [str(untrained / "parts/test"), "-o", str(tmp_path / "out")]
    assert main(["predict", "--ckpt", str(untrained), *images]) == 0
    printed = capsys.readouterr()
    assert "brightness" not in printed.out + printed.err
    assert json.loads((tmp_path / "evaluation.json").read_text())["notes"] == []


def test_brightness_that_no_score_depends_on_is_not_mentioned(trained_with_equal_norm, tmp_path, capsys):
    path = trained_with_equal_norm / "parts/test/good/000.png"
    dark = tmp_path / "dark.png"
    Image.fromarray((np.asarray(Image.open(path)) // 2).astype(np.uint8)).save(dark)
    assert (
        main(["predict", "--ckpt", str(trained_with_equal_norm), str(dark), "-o", str(tmp_path / "o")]) == 0
    )
    assert "brightness" not in capsys.readouterr().err


def test_a_checkpoint_of_an_earlier_version_knows_no_brightness(untrained, dark, tmp_path, capsys):
    checkpoint = torch.load(untrained / "best.ckpt", weights_only=True)
    del checkpoint["categories"]
    for name in ("low", "high", "count"):
        del checkpoint["state_dict"][f"calibration.brightness.{name}"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    predict = ["predict", "--ckpt", str(tmp_path / "old.ckpt"), "-o", str(tmp_path / "out")]
    assert main([*predict, str(dark / "test")]) == 0
    assert "brightness" not in capsys.readouterr().err
