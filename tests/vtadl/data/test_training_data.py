"""Training uses augmented training images, and no test image."""

import lightning as L
import pytest
import torch

from vtadl.data import Augmentation, MVTecAD
from vtadl.lightning_module import AnomalyDetector
from vtadl.training.callbacks import training_callbacks
from vtadl.training.trainer import AtomicCheckpointIO


def train(category, folder, tiny, **options):
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=training_callbacks(folder)[1:],
        plugins=[AtomicCheckpointIO()],
    )
    data = MVTecAD(str(category), image_size=32, batch_size=4, workers=0, **options)
    trainer.fit(AnomalyDetector.from_settings(**tiny), data)
    return torch.load(folder / "best.ckpt", weights_only=True)


def test_test_images_do_not_influence_a_checkpoint(category, tmp_path, settled):
    options = settled | {"softness": None}  # softness is chosen during training
    expected = train(category, tmp_path / "before", options)
    good, hole = category / "test/good", category / "test/hole"
    good.rename(category / "test/other")
    hole.rename(good)
    (category / "test/other").rename(hole)
    (category / "ground_truth/hole/000_mask.png").write_bytes(b"no image")
    checkpoint = train(category, tmp_path / "after", options)
    assert checkpoint["epoch"] == expected["epoch"]
    assert checkpoint["state_dict"].keys() == expected["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        assert torch.equal(checkpoint["state_dict"][name], value), name


def test_augmentation_changes_training(category, tmp_path, gated):
    plain = train(category, tmp_path / "plain", gated)["state_dict"]
    changed = train(category, tmp_path / "changed", gated, augmentation=Augmentation(rotation=90))[
        "state_dict"
    ]
    assert any(not torch.equal(plain[name], changed[name]) for name in plain)


def test_validation_and_test_images_are_not_augmented(category):
    data = MVTecAD(
        str(category), image_size=32, workers=0, augmentation=Augmentation(True, True, brightness=0.5)
    )
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    data.trainer = trainer
    image = torch.rand(4, 3, 32, 32)
    for stage, changed in (
        ("training", True),
        ("validating", False),
        ("testing", False),
        ("predicting", False),
    ):
        setattr(trainer, stage, True)
        after = data.on_after_batch_transfer({"image": image}, 0)["image"]
        assert torch.equal(after, image) != changed


@pytest.mark.parametrize(
    "option",
    [{"rotation": 20}, {"shift": 0.1}, {"zoom": 0.1}, {"brightness": 0.3}, {"contrast": 0.3}],
    ids=lambda option: next(iter(option)),
)
def test_each_augmentation_changes_images_of_a_batch_differently_and_keeps_their_range(option):
    image = torch.rand(1, 3, 16, 16).expand(4, -1, -1, -1)
    changed = Augmentation(**option).build()(image)
    assert changed.shape == image.shape
    assert 0 <= changed.min() < changed.max() <= 1
    assert not torch.allclose(changed[0], changed[1])
    assert not torch.allclose(changed, image)


@pytest.mark.parametrize(("option", "dim"), [("horizontal_flip", -1), ("vertical_flip", -2)])
def test_some_images_of_a_batch_are_flipped(option, dim):
    image = torch.rand(1, 3, 8, 8).expand(32, -1, -1, -1)
    changed = Augmentation(**{option: True}).build()(image)
    flipped = [torch.equal(one, image[0].flip(dim)) for one in changed]
    assert 4 < sum(flipped) < 28
    assert all(torch.equal(one, image[0]) for one, turned in zip(changed, flipped, strict=True) if not turned)


def test_augmentation_is_off_by_default():
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(Augmentation().build()(image), image)
