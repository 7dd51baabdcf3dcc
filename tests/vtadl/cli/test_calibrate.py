"""`vtadl calibrate` takes thresholds anew, and `vtadl predict` uses others when asked."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vtadl.cli import main
from vtadl.cli.commands import PARTLY_READ
from vtadl.common.binomial import upper_bound
from vtadl.detector import Detector


@pytest.fixture
def run(untrained, tmp_path):
    """Returns a copy of a run, which the test may change."""
    return shutil.copytree(untrained, tmp_path / "run")


@pytest.fixture
def noisy(tmp_path):
    """Returns a folder of normal images of today, which have more contrast than those of training."""
    rng = np.random.default_rng(1)
    (tmp_path / "noisy").mkdir()
    for index in range(30):
        pixels = rng.integers(60, 150, (40, 48), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"noisy/{index:02d}.png")
    return tmp_path / "noisy"


def scores_of(folder):
    return json.loads((folder / "scores.json").read_text())


def test_thresholds_are_taken_anew_and_nothing_else_changes(run, noisy, tmp_path, capsys):
    before, old = Detector.load(run, "cpu"), (run / "best.ckpt").read_bytes()
    assert main(["predict", "--ckpt", str(run), str(noisy), "-o", str(tmp_path / "before")]) == 0
    assert "vtadl: 30 of 30 images exceed the threshold: if half" in capsys.readouterr().err
    assert main(["calibrate", str(run), "--images", str(noisy), "--device=cpu"]) == 0
    rate = upper_bound(0, 30)
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"checkpoint: {run}/best.ckpt; the previous one: {run}/best.1.ckpt\n"
        f"threshold: with 90% confidence, at most {rate:.1%} of new normal images exceed it; 1.0% would take "
        "230 normal images, of which there are 30\npixel threshold: "
    )
    assert (run / "best.1.ckpt").read_bytes() == old
    after = Detector.load(run, "cpu")
    scores = [after.predict(path).score for path in sorted(noisy.iterdir())]
    assert after.module.calibration.image.value.item() == pytest.approx(max(scores), rel=1e-5)
    assert after.module.calibration.pixel.scores.numel() == 30
    for name, value in before.module.state_dict().items():
        assert name.startswith("calibration.") or torch.equal(value, after.module.state_dict()[name])
    assert main(["predict", "--ckpt", str(run), str(noisy), "-o", str(tmp_path / "after")]) == 0
    assert capsys.readouterr().err == ""
    assert not any(row["anomalous"] for row in scores_of(tmp_path / "after")["images"])
    assert main(["test", str(run), f"--output={tmp_path}"]) == 0  # Lightning loads the checkpoint, too


def test_a_test_says_that_the_stated_rate_does_not_hold_until_a_calibration(run, noisy, tmp_path, capsys):
    root = shutil.copytree(run / "parts", tmp_path / "parts")
    shutil.rmtree(root / "test/good")
    shutil.copytree(noisy, root / "test/good")
    test = ["test", str(run), f"--data.root={root}", f"--output={tmp_path}"]
    said = "30 of 30 normal images exceed the threshold, where at most 17.5% were to: chance alone"
    assert main(test) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    (note,) = json.loads((tmp_path / "evaluation.json").read_text())["notes"]
    assert note.startswith(said)
    assert note.endswith("by vtadl calibrate RUN --images FOLDER")
    assert main(["report", *test[1:]]) == 0
    assert f"<p>{said}" in (tmp_path / "report.html").read_text()
    assert main(["calibrate", str(run), "--images", str(root / "test/good")]) == 0
    assert main(test) == 0
    assert json.loads((tmp_path / "evaluation.json").read_text())["notes"] == []


def test_each_calibration_keeps_the_previous_checkpoint(run, noisy, capsys):
    for number in (1, 2):
        old = (run / "best.ckpt").read_bytes()
        rate = f"--false_alarm_rate=0.{number}"
        assert main(["calibrate", "--ckpt", str(run), "--images", f"{noisy}/*.png", rate]) == 0
        assert (run / f"best.{number}.ckpt").read_bytes() == old
    assert "exceed it\n" in capsys.readouterr().out  # 30 images are enough for these rates
    calibration = Detector.load(run, "cpu").module.calibration
    assert calibration.image_rate == 0.2
    assert calibration.image.false_alarm_rate <= 0.2


def test_another_checkpoint_can_be_written(run, noisy, tmp_path):
    old, new = (run / "best.ckpt").read_bytes(), tmp_path / "new" / "today.ckpt"
    assert main(["calibrate", str(run), "--images", str(noisy), "-o", str(new)]) == 0
    assert (run / "best.ckpt").read_bytes() == old
    assert list(new.parent.iterdir()) == [new]
    assert Detector.load(new, "cpu").module.calibration.image.count == 30


def test_images_of_the_training_are_left_out(run, noisy, capsys):
    seen = run / "parts/train/good"
    assert main(["calibrate", str(run), "--images", str(seen)]) == 1
    assert "the detector was trained with all of the images" in capsys.readouterr().err
    assert main(["calibrate", str(run), "--images", str(seen), str(noisy)]) == 0
    assert "left out are 12 images that the detector was trained with" in capsys.readouterr().err
    assert Detector.load(run, "cpu").module.calibration.image.count == 30


def test_an_image_that_cannot_be_read_is_named(run, noisy, capsys):
    (noisy / "broken.png").write_bytes(b"no image")
    assert main(["calibrate", str(run), "--images", str(noisy)]) == PARTLY_READ
    assert f"cannot read image {noisy / 'broken.png'}" in capsys.readouterr().err
    assert Detector.load(run, "cpu").module.calibration.image.count == 30


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--images", "."], 2, "give the folder of a run, or a checkpoint by --ckpt"),
        (["none.ckpt", "--images", "."], 1, "there is no checkpoint none.ckpt"),
        (["RUN"], 1, "no images are given"),
        (["RUN", "--images", "nowhere"], 1, "there is no image nowhere"),
        (["RUN", "--images", "nowhere", "--category=nut"], 1, "none called nut"),
        (["RUN", "--images", "nowhere", "--false_alarm_rate=1"], 1, "false_alarm_rate is 1.0"),
    ],
)
def test_a_calibration_that_is_impossible_is_refused(untrained, capsys, arguments, status, sentence):
    given = [str(untrained) if argument == "RUN" else argument for argument in arguments]
    assert main(["calibrate", *given]) == status
    assert sentence in capsys.readouterr().err


def test_a_checkpoint_of_an_earlier_version_is_calibrated(run, noisy):
    checkpoint = torch.load(run / "best.ckpt", weights_only=True)
    for name in ("image.scores", "pixel.scores", "pixel.image_false_alarm_rate"):
        del checkpoint["state_dict"][f"calibration.{name}"]
    torch.save(checkpoint, run / "best.ckpt")
    assert Detector.load(run, "cpu").module.calibration.image.false_alarm_rate < 1
    assert main(["calibrate", str(run), "--images", str(noisy)]) == 0
    assert Detector.load(run, "cpu").module.calibration.image.scores.numel() == 30


def test_predictions_can_use_another_threshold(untrained, tmp_path, capsys):
    images = ["--ckpt", str(untrained), str(untrained / "parts/test"), "-o", str(tmp_path / "out")]
    assert main(["predict", *images]) == 0
    ordered = sorted(row["score"] for row in scores_of(tmp_path / "out")["images"])
    threshold = (ordered[2] + ordered[3]) / 2
    assert main(["predict", *images, f"--threshold={threshold}"]) == 0
    rows = scores_of(tmp_path / "out")
    assert sum(row["anomalous"] for row in rows["images"]) == len(ordered) - 3
    assert rows["thresholds"]["image"]["value"] == pytest.approx(threshold)
    for row in rows["images"]:
        assert row["anomalous"] == (row["normalised_score"] > 0.5) == (row["score"] > threshold)
    capsys.readouterr()
    assert main(["predict", *images, "--false_alarm_rate=0.5"]) == 0
    summary = scores_of(tmp_path / "out")["thresholds"]["image"]
    calibration = Detector.load(untrained, "cpu").module.calibration.image
    assert summary["value"] == calibration.scores[-4]  # three of twelve are known to be half at most
    assert f"at most {upper_bound(3, 12):.1%} of new normal images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--threshold=1", "--false_alarm_rate=0.1"], "give either a threshold or a false-alarm rate"),
        (["--false_alarm_rate=0"], "false_alarm_rate is 0.0"),
        (["--threshold=.inf"], "threshold is inf; it has to be finite"),
    ],
)
def test_a_threshold_that_is_none_is_refused(untrained, tmp_path, capsys, options, sentence):
    image = str(untrained / "parts/test/good/000.png")
    assert main(["predict", "--ckpt", str(untrained), image, "-o", str(tmp_path / "out"), *options]) == 1
    assert sentence in capsys.readouterr().err
