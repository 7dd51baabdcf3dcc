import zipfile

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback

from vtadl.checkpoints import load_detector
from vtadl.common.files import atomic_path
from vtadl.data import TextureDefects
from vtadl.density import DensitySettings
from vtadl.errors import InputError
from vtadl.lightning_module import AnomalyDetector
from vtadl.training.callbacks import training_callbacks
from vtadl.training.trainer import AtomicCheckpointIO


def make_trainer(folder, epochs):
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=training_callbacks(folder),
        plugins=[AtomicCheckpointIO()],
    )


@pytest.fixture
def data():
    return TextureDefects(image_size=32, batch_size=8, train_count=32, val_count=16, test_count=12)


@pytest.fixture
def chosen(tiny):
    """Sizes and settings that leave nothing to choose, for speed."""
    return tiny | {
        "descriptor": "pixels",
        "positions": "own",
        "min_std": 0.1,
        "softness": 0.03,
        "features": 12,
        "normalised": False,
        "gated": True,
    }


@pytest.mark.parametrize("likelihood", ["dictionary", "paper", "public-code"])
def test_a_few_epochs_lower_the_loss(chosen, data, tmp_path, likelihood):
    detector = AnomalyDetector.from_settings(**chosen | {"likelihood": likelihood}, warmup_steps=2)
    trainer = make_trainer(tmp_path, 6)
    losses = []
    trainer.callbacks.append(
        LambdaCallback(on_train_epoch_end=lambda t, _: losses.append(t.callback_metrics["train_loss"].item()))
    )
    trainer.fit(detector, data)
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_the_dictionary_is_chosen_and_fitted_before_training(tiny, data, tmp_path):
    detector = AnomalyDetector.from_settings(**tiny | {"components": None}, features=12, gated=True)
    trainer = make_trainer(tmp_path, 1)
    trainer.fit(detector, data)
    dictionary = detector.network.dictionary
    assert dictionary.fitted
    assert dictionary.expert.mu.shape[1] > 0
    assert len(detector.network.gate.loadings) == dictionary.expert.mu.shape[1]


def test_frozen_components_stay_and_trained_ones_move(chosen, data, tmp_path):
    means: list[torch.Tensor] = []
    for trained in (False, True):
        detector = AnomalyDetector.from_settings(**chosen, trained=trained)
        callback = LambdaCallback(
            on_fit_start=lambda _, module: means.append(module.network.dictionary.expert.mu.clone())
        )
        trainer = make_trainer(tmp_path, 1)
        trainer.callbacks.append(callback)
        trainer.fit(detector, data)
        assert torch.equal(detector.network.dictionary.expert.mu, means[-1]) != trained


@pytest.mark.parametrize("gated", [False, True])
def test_scoring_runs_no_part_whose_outcome_does_not_count(chosen, data, tmp_path, monkeypatch, gated):
    detector = AnomalyDetector.from_settings(**chosen | {"gated": gated}, trained=True, terms=["nll"])
    make_trainer(tmp_path, 1).fit(detector, data)
    detector.eval()
    images, network = torch.rand(3, 3, 32, 32), detector.network
    with torch.no_grad():
        equal = detector.norm(images)
        prediction = network(equal)
        expected = detector.scorer(equal, prediction, network.patch_scores(prediction))
        for part in (network.decoder, *([] if gated else [network.encoder])):
            monkeypatch.setattr(part, "forward", None)
        scores = detector(images)
    torch.testing.assert_close(scores, expected)


def test_without_a_data_module_the_dictionary_says_what_it_needs(chosen, data, tmp_path):
    data.setup("fit")
    with pytest.raises(InputError, match="data module"):
        make_trainer(tmp_path, 1).fit(AnomalyDetector.from_settings(**chosen), data.train_dataloader())


@pytest.mark.parametrize("positions", ["own", "shared"])
def test_a_checkpoint_restores_the_same_scores(chosen, data, tmp_path, positions):
    detector = AnomalyDetector.from_settings(**chosen | {"positions": positions, "top_patches": 3})
    make_trainer(tmp_path, 1).fit(detector, data)
    restored = load_detector(tmp_path / "last.ckpt")
    images = torch.rand(4, 3, 32, 32)
    expected = detector.eval()(images)
    assert restored.scorer.term_moments.count == 16
    assert torch.equal(restored(images).image, expected.image)
    assert torch.equal(restored(images).map, expected.map)


def test_a_resumed_run_ends_like_an_uninterrupted_one(chosen, data, tmp_path):
    def fit(folder, epochs, checkpoint=None):
        L.seed_everything(0, verbose=False)
        detector = AnomalyDetector.from_settings(**chosen, noise_std=0.0)
        trainer = make_trainer(tmp_path / folder, epochs)
        trainer.fit(detector, data, ckpt_path=checkpoint)
        return trainer

    first = fit("first", 1)
    resumed = fit("resumed", 3, tmp_path / "first" / "last.ckpt")
    assert first.global_step == 4
    assert resumed.global_step == 12
    assert resumed.current_epoch == 3
    schedule = resumed.lr_scheduler_configs[0].scheduler
    assert schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(chosen, data, tmp_path):
    trainer = make_trainer(tmp_path, 2)
    trainer.fit(AnomalyDetector.from_settings(**chosen), data)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["epoch"] == 1
    assert trainer.checkpoint_callbacks[0].best_model_score <= trainer.callback_metrics["val_loss"]
    assert best["epoch"] <= last["epoch"]


def test_testing_reports_all_figures(chosen, data, tmp_path):
    trainer = make_trainer(tmp_path, 1)
    trainer.fit(detector := AnomalyDetector.from_settings(**chosen), data)
    (figures,) = trainer.test(detector, data, verbose=False)
    names = {"auroc", "average_precision", "f1_max"}
    expected = {f"{kind}_{name}" for kind in ("image", "pixel") for name in names} | {"aupro", "aupro_0.05"}
    assert set(figures) == expected
    assert set(detector.evaluation.kinds) == {"patch", "scratch", "blot"}
    assert all(0 <= figure <= 1 for figure in figures.values())


def test_the_learning_rate_warms_up_and_falls_to_zero(chosen, data, tmp_path):
    detector = AnomalyDetector.from_settings(**chosen, warmup_steps=2)
    make_trainer(tmp_path, 2).fit(detector, data)
    factors = [detector._learning_rate_factor(step) for step in range(9)]
    assert factors[0] == pytest.approx(0.5)
    assert max(factors) == factors[1] > 0.9
    assert factors[-1] == pytest.approx(0)


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "wrong.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"wrong\.ckpt"):
        load_detector(path)


def test_a_truncated_checkpoint_is_named(chosen, data, tmp_path):
    make_trainer(tmp_path, 1).fit(AnomalyDetector.from_settings(**chosen), data)
    path = tmp_path / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"last\.ckpt"):
        load_detector(path)


def saved(tmp_path, replace=None):
    """A detector's checkpoint; with another pickle in it, if asked."""
    path, other = tmp_path / "first.ckpt", tmp_path / "saved.ckpt"
    torch.save({"state_dict": {"weight": torch.zeros(5000)}}, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            is_pickle = name.endswith("data.pkl") and replace is not None
            new.writestr(name, replace if is_pickle else old.read(name))
    return other


def test_a_checkpoint_with_changed_weights_is_damaged(tmp_path):
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[content.find(bytes(2000)) + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"saved\.ckpt is damaged"):
        load_detector(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"\x80\x02J\x00", b"\x80\x02X\xff\xff\xff\x7f"])
def test_a_checkpoint_with_an_impossible_pickle_is_named(tmp_path, content):
    with pytest.raises(InputError, match=r"saved\.ckpt cannot be read"):
        load_detector(saved(tmp_path, content))


def test_a_checkpoint_of_something_else_is_named(tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"other\.ckpt"):
        load_detector(tmp_path / "other.ckpt")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "folder" / "file.txt"

    def write(text, fail):
        with atomic_path(path) as temporary:
            temporary.write_text(text)
            if fail:
                raise OSError("disk full")

    write("old", fail=False)
    with pytest.raises(InputError, match=r"cannot write .*file\.txt: disk full"):
        write("new", fail=True)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["folder", "file/below"])
def test_a_place_that_cannot_be_written_to_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=f"cannot write .*{name}: "),
        atomic_path(tmp_path / name) as temporary,
    ):
        temporary.write_text("text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_descriptor_that_the_network_lacks_is_named():
    with pytest.raises(InputError, match="descriptor is backbone, and there is no backbone"):
        AnomalyDetector(density=DensitySettings(descriptor="backbone"))
