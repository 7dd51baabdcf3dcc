"""Nothing is trained where nothing that is trained can change a score."""

import csv
import re

import lightning as L
import pytest
import torch

from vtadl.checkpoints import load_detector
from vtadl.cli import main
from vtadl.cli.export import export
from vtadl.data import TextureDefects
from vtadl.detector import Detector
from vtadl.lightning_module import AnomalyDetector
from vtadl.training.trainer import make_trainer

QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture
def data():
    return TextureDefects(image_size=32, batch_size=8, train_count=24, val_count=16, test_count=12)


@pytest.mark.parametrize(
    ("settings", "trains"),
    [
        ({}, False),
        ({"terms": ["nll"], "gated": False}, False),
        ({"terms": ["nll", "mse"]}, True),
        ({"terms": ["dissimilarity"]}, True),
        ({"gated": True}, True),
        ({"trained": True}, True),
        ({"likelihood": "paper"}, True),
        ({"likelihood": "public-code", "terms": ["nll"]}, True),
    ],
    ids=str,
)
def test_a_detector_trains_where_training_can_change_a_score(tiny, settings, trains):
    detector = AnomalyDetector.from_settings(**tiny | settings)
    assert detector.trains == trains
    assert trains == any(name.startswith("network.encoder.") for name in detector.state_dict())
    assert trains == any(parameter.requires_grad for parameter in detector.parameters())


@pytest.mark.parametrize(
    ("settings", "weights"),
    [({}, [1, 0, 0]), ({"likelihood": "paper"}, [1 / 3] * 3), ({"terms": ["mse", "nll"]}, [0.5, 0.5, 0])],
    ids=str,
)
def test_the_terms_that_are_not_given_follow_the_likelihood(tiny, settings, weights):
    scorer = AnomalyDetector.from_settings(**tiny | settings).scorer
    assert scorer.weights.tolist() == pytest.approx(weights)


def test_any_trainer_fits_validates_and_saves_in_one_step(settled, data, tmp_path):
    detector = AnomalyDetector.from_settings(**settled)
    trainer = L.Trainer(**QUIET, max_epochs=20, default_root_dir=tmp_path)
    trainer.fit(detector, data)
    assert (trainer.current_epoch, trainer.global_step) == (1, 1)
    assert detector.calibration.image.count == 24 + 16
    images = torch.rand(4, 3, 32, 32)
    restored = load_detector(trainer.checkpoint_callback.best_model_path)
    assert torch.equal(restored(images).map, detector.eval()(images).map)
    assert not any(parameter.requires_grad for parameter in detector.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 20},
        {"max_steps": 100},
        {"accumulate_grad_batches": 2, "max_epochs": 3},
        {"accumulate_grad_batches": 100, "max_epochs": 3},
        {"check_val_every_n_epoch": 5, "max_epochs": 20},
        {"val_check_interval": 2, "max_epochs": 3},
        {"limit_val_batches": 0, "max_epochs": 3},
    ],
    ids=str,
)
def test_options_of_the_trainer_change_nothing(settled, data, tmp_path, options):
    detector = AnomalyDetector.from_settings(**settled)
    make_trainer(tmp_path, patience=2, **QUIET, **options).fit(detector, data)
    for name in ("best", "last"):
        checkpoint = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)
        assert (checkpoint["epoch"], checkpoint["global_step"]) == (0, 1)
        assert checkpoint["state_dict"]["calibration.image.count"] == 24 + 16
    with (tmp_path / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert set(row) == {"epoch", "step", "val_loss"}


def test_training_images_are_read_for_the_fit_alone(settled, data, tmp_path, monkeypatch):
    data.setup("fit")
    monkeypatch.setattr(data, "setup", lambda stage: None)
    read, get = [], type(data.train_set).__getitem__
    monkeypatch.setattr(type(data.train_set), "__getitem__", lambda s, i: read.append(s) or get(s, i))
    make_trainer(tmp_path, **QUIET, max_epochs=5).fit(AnomalyDetector.from_settings(**settled), data)
    assert sum(images is data.train_set for images in read) <= 24 + 8


def test_a_run_without_training_is_complete_and_has_no_training_curves(untrained, capsys):
    assert {"best.ckpt", "last.ckpt", "config.yaml", "metrics.csv", "data.json"} <= {
        path.name for path in untrained.iterdir()
    }
    assert main(["report", str(untrained)]) == 0
    page = (untrained / "report.html").read_text()
    assert "<h3>Training</h3>" not in page
    assert "Per-region overlap" in page


def test_a_complete_run_says_so_when_it_is_resumed(untrained, capsys):
    before = (untrained / "last.ckpt").read_bytes()
    capsys.readouterr()
    assert main(["fit", "--resume", str(untrained)]) == 0
    printed = capsys.readouterr().out
    assert f"{untrained} is complete" in printed
    assert f"checkpoint: {untrained / 'best.ckpt'}\nthreshold: " in printed
    assert (untrained / "last.ckpt").read_bytes() == before


def test_a_run_that_ended_in_its_fit_starts_again(settled, tmp_path, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    options = [
        *(f"--model.{name}={value}" for name, value in settled.items()),
        *("--data.train_count=24", "--data.val_count=8", "--data.test_count=8", "--trainer.accelerator=cpu"),
    ]
    with monkeypatch.context() as patch:
        patch.setattr("vtadl.lightning_module.fit_dictionary", interrupt)
        assert main(["fit", *options, f"--output={tmp_path}"]) == 130
    assert f"start again with: vtadl fit --resume {tmp_path}" in capsys.readouterr().err
    assert main(["fit", "--resume", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "training: none, because it would change no score" in printed
    assert re.search(r"Trainable params: 0\b", printed)
    assert "Epoch" not in printed
    assert f"checkpoint: {tmp_path / 'best.ckpt'}\nthreshold: " in printed


def test_an_exported_program_decides_as_the_detector_does(untrained, tmp_path):
    program = torch.export.load(export(str(untrained), "torch", str(tmp_path / "detector.pt2"))).module()
    images = torch.randint(0, 256, (2, 40, 48, 3), dtype=torch.uint8)
    detector = Detector.load(untrained, "cpu")
    decisions = program(images)
    for image, score, map_ in zip(images, decisions["score"], decisions["map"], strict=True):
        detection = detector.predict(image.numpy())
        assert score.item() == pytest.approx(detection.score, rel=1e-3)
        torch.testing.assert_close(map_, torch.from_numpy(detection.map), rtol=1e-3, atol=1e-3)


def test_a_detector_of_nearest_windows_alone_is_fitted(tiny, data, tmp_path):
    density = {"descriptor": "energies", "positions": "near"}
    detector = AnomalyDetector.from_settings(**tiny, **density)
    make_trainer(tmp_path, **QUIET).fit(detector, data)
    loaded = load_detector(tmp_path / "best.ckpt")
    images = torch.rand(2, 3, *detector.network.image_size)
    assert torch.equal(loaded(images).image, detector.eval()(images).image)
