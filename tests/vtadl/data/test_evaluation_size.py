"""Pixels are evaluated at the size of the masks, in every mode of resizing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vtadl.cli import main
from vtadl.data import MVTecAD
from vtadl.errors import InputError
from vtadl.metrics import DetectionMetrics

SIZES = [(60, 90), (90, 60), (75, 75)]


@pytest.fixture
def squares(category):
    """Adds images of several sizes whose mask marks what is white in them."""
    for index, (height, width) in enumerate(SIZES):
        pixels = np.zeros((height, width), np.uint8)
        pixels[height // 8 : height // 3, width // 2 : width - 20] = 255
        pixels[height - 9 : height - 4, 3:9] = 255
        for folder, name in (("test", f"{index}.png"), ("ground_truth", f"{index}_mask.png")):
            path = category / folder / "square" / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    return category


def batches(root, **options):
    data = MVTecAD(str(root), image_size=32, workers=0, batch_size=4, **options)
    data.setup("test")
    return list(data.test_dataloader())


@pytest.mark.parametrize("resize_mode", ["stretch", "crop", "tiles"])
@pytest.mark.parametrize("evaluation_size", [None, 32, 50, (48, 64)])
def test_maps_and_masks_cover_the_same_part_of_the_image(squares, resize_mode, evaluation_size):
    metrics = DetectionMetrics()
    for batch in batches(squares, resize_mode=resize_mode, evaluation_size=evaluation_size):
        own = [index for index, kind in enumerate(batch["kind"]) if kind == "square"]
        if own:  # the image is its own map
            maps, masks = batch["image"][own][:, :1], [batch["mask"][index] for index in own]
            labels = torch.ones(len(own), dtype=torch.int64)
            metrics.update(maps.amax((1, 2, 3)), labels, maps, masks, labels > 0)
    assert metrics.compute()["pixel_auroc"] > 0.995
    assert metrics.compute()["aupro"] > 0.98


@pytest.mark.parametrize(("resize_mode", "shape"), [("stretch", (60, 90)), ("crop", (60, 60))])
def test_masks_have_the_size_of_their_files_without_what_is_cut_off(squares, resize_mode, shape):
    samples = [
        (batch["name"][index], batch["mask"][index])
        for batch in batches(squares, resize_mode=resize_mode)
        for index in range(len(batch["name"]))
    ]
    (mask,) = [mask for name, mask in samples if name.endswith("square/0.png")]
    full = np.asarray(Image.open(squares / "ground_truth/square/0_mask.png")) > 0
    assert mask.shape == (1, *shape)
    assert np.array_equal(mask[0].numpy(), full[:, (90 - shape[1]) // 2 :][:, : shape[1]])
    good = [mask for name, mask in samples if "good" in name]
    assert {mask.shape for mask in good} == {(1, 40, 48 if resize_mode == "stretch" else 40)}
    assert not any(mask.any() for mask in good)


@pytest.mark.parametrize("resize_mode", ["stretch", "crop"])
def test_a_given_size_is_that_of_all_masks_of_a_batch(squares, resize_mode):
    for size in (32, (24, 40)):
        for batch in batches(squares, resize_mode=resize_mode, evaluation_size=size):
            assert batch["mask"].shape[1:] == (1, *((32, 32) if size == 32 else size))
            assert batch["mask"].dtype == torch.float32


@pytest.mark.parametrize("size", [0, (5, -1)])
def test_a_size_that_is_not_positive_is_refused(category, size):
    with pytest.raises(InputError, match="evaluation_size"):
        MVTecAD(str(category), evaluation_size=size)


def test_an_old_run_is_tested_at_the_size_of_its_masks_or_at_any_other(untrained, tmp_path):
    def figures(*options):
        assert main(["test", str(untrained), "--output", str(tmp_path), *options]) == 0
        return json.loads((tmp_path / "evaluation.json").read_text())["figures"]

    settings = (untrained / "config.yaml").read_text()
    assert "evaluation_size: null" in settings
    (untrained / "config.yaml").write_text(settings.replace("    evaluation_size: null\n", ""))
    try:
        at_masks = figures()
    finally:
        (untrained / "config.yaml").write_text(settings)
    assert figures() == at_masks
    at_network, image_figures = figures("--data.evaluation_size=32"), ("image_auroc", "image_f1_max")
    assert [at_network[name] for name in image_figures] == [at_masks[name] for name in image_figures]
    assert at_network["aupro"] != at_masks["aupro"]
    assert at_network["aupro"] == pytest.approx(at_masks["aupro"], abs=0.1)


def test_a_report_shows_small_defects_of_large_masks(squares, untrained, tmp_path):
    data = [f"--data.root={squares}", "--data.category=", f"--output={tmp_path / 'report'}"]
    assert main(["report", str(untrained), *data]) == 0
    assert "AUPRO at 0.05" in (tmp_path / "report/report.html").read_text()
