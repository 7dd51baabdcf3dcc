"""Images larger than the network are cut into tiles, whose scores and maps are joined."""

import math

import numpy as np
import pytest
import torch

from vtadl.checkpoints import load_detector
from vtadl.cli import main
from vtadl.data import MVTecAD
from vtadl.data.images import read_pixels
from vtadl.detector import Detector
from vtadl.images.pixels import to_tensor
from vtadl.images.tiles import corners, cut, join

TILE = (32, 24)


@pytest.mark.parametrize("whole", [(32, 24), (33, 24), (32, 48), (64, 49), (100, 97)])
def test_the_fewest_tiles_cover_an_image_evenly(whole):
    places = corners(whole, TILE)
    assert len(places) == math.ceil(whole[0] / 32) * math.ceil(whole[1] / 24)
    covered = torch.zeros(whole)
    for row, column in places:
        covered[row : row + 32, column : column + 24] += 1
    assert covered.min() == 1
    for starts in map(sorted, map(set, zip(*places, strict=True))):
        steps = np.diff(starts)
        assert len(steps) == 0 or steps.max() - steps.min() <= 1


@pytest.mark.parametrize("whole", [(32, 24), (40, 70)])
def test_joined_tiles_are_the_images_they_were_cut_from(whole):
    images = torch.rand(2, 3, *whole)
    tiles = cut(images, TILE)
    assert tiles.shape == (2 * len(corners(whole, TILE)), 3, *TILE)
    torch.testing.assert_close(join(tiles, whole), images)


def test_overlapping_tiles_are_averaged():
    joined = join(torch.stack([torch.zeros(1, 2, 4), torch.ones(1, 2, 4)]), (2, 6))
    assert joined[0, 0].tolist() == [[0, 0, 0.5, 0.5, 1, 1]] * 2


def test_the_score_of_an_image_is_the_largest_of_its_tiles(trained):
    detector = load_detector(trained)
    images = torch.rand(2, 3, 32, 50)
    with torch.inference_mode():
        scores, left, right = (detector(part) for part in (images, images[..., :32], images[..., 18:]))
    torch.testing.assert_close(scores.image, torch.maximum(left.image, right.image))
    torch.testing.assert_close(scores.map[..., :18], left.map[..., :18])
    torch.testing.assert_close(scores.map[..., 18:32], (left.map[..., 18:] + right.map[..., :14]) / 2)
    torch.testing.assert_close(scores.map[..., 32:], right.map[..., 14:])


@pytest.mark.parametrize(
    ("size", "expected"), [((40, 80), (32, 64)), ((90, 30), (96, 32)), ((8, 8), (32, 32))]
)
def test_an_image_keeps_its_aspect_ratio_and_covers_a_tile(tmp_path, save_image, size, expected):
    assert read_pixels(save_image(tmp_path / "image.png", size=size), (32, 32), "tiles").shape[:2] == expected


@pytest.fixture
def mixed(category, save_image):
    """Makes a category that also has portrait and landscape images."""
    for folder in ("train/good", "test/good"):
        for index in range(3):
            save_image(category / folder / f"upright{index}.png", size=(80, 40))
            save_image(category / folder / f"lying{index}.png", size=(40, 100))
    return category


def test_training_uses_tiles_and_testing_uses_whole_images(mixed):
    data = MVTecAD(str(mixed), image_size=32, workers=0, resize_mode="tiles", evaluation_size=32)
    data.setup("fit")
    data.setup("test")
    tiles = torch.cat([batch["image"] for batch in data.train_dataloader()])
    sizes = [sample["image"].shape[1:] for sample in data.train_set]
    assert tiles.shape == (sum(len(corners(size, (32, 32))) for size in sizes), 3, 32, 32)
    shapes = {tuple(batch["image"].shape) for batch in data.test_dataloader()}
    assert shapes == {(1, 3, 32, 38), (1, 3, 64, 32), (1, 3, 32, 80)}
    assert all(batch["mask"].shape[2:] == batch["image"].shape[2:] for batch in data.test_dataloader())


def test_a_detector_with_tiles_works_on_images_of_any_shape(mixed, tiny, tmp_path, capsys):
    data = ["--data=MVTecAD", f"--data.root={mixed}", "--data.workers=0", "--data.resize_mode=tiles"]
    settings = tiny | {"features": 12, "positions": "own", "softness": 0.03, "min_std": 0.1}
    model = [f"--model.{name}={value}" for name, value in settings.items()]
    run = tmp_path / "run"
    assert main(["fit", *data, *model, "--trainer.max_epochs=1", f"--output={run}"]) == 0
    assert main(["report", str(run)]) == 0
    assert main(["test", f"--ckpt={run}/best.ckpt", *data[:-1]]) == 1
    assert (
        "trained with resize_mode=tiles, but the test data have resize_mode=stretch"
        in capsys.readouterr().err
    )
    detector = Detector.load(run, "cpu")
    assert detector.module.calibration.image.count == 12 + 6  # counts images, not tiles
    upright, lying = (mixed / f"test/good/{name}0.png" for name in ("upright", "lying"))
    detections = detector.predict([upright, lying])
    assert [detection.map.shape for detection in detections] == [(80, 40), (40, 100)]
    tested = to_tensor(read_pixels(lying, (32, 32), "tiles"))
    assert tested.shape == (3, 32, 80)
    assert detector.predict(tested).score == pytest.approx(detections[1].score, rel=1e-5)
