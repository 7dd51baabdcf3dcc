"""The comparison of detectors, on features of random numbers."""

import json
import math
import sys

import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.detection import __main__ as command
from benchmarks.detection import report
from benchmarks.detection.comparison import Category, Result, measure
from benchmarks.detection.own import Gaussians, KnownFeatures
from vtadl.features.extractor import FeatureExtractor

GRID, SIDE, CHANNELS = (8, 8), 32, 12


class Cells(FeatureExtractor):
    """Features of cells of 4 x 4 pixels; counts the images that it sees."""

    def __init__(self):
        super().__init__()
        self.grid, self.seen = GRID, 0
        self.mixing = nn.Conv2d(3, CHANNELS, 4, stride=4).requires_grad_(False)

    def forward(self, images):
        self.seen += len(images)
        return self.mixing(images).flatten(2).transpose(1, 2)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return KnownFeatures(Cells())


@pytest.fixture
def category(network):
    """Images of weak noise; in a quarter of the test images, a corner is bright."""
    generator = torch.Generator().manual_seed(1)
    images = 0.4 + 0.2 * torch.rand(40, 3, SIDE, SIDE, generator=generator)
    train, test = images[:24], images[24:]
    masks = torch.zeros(16, 1, SIDE, SIDE)
    masks[:4, :, :16, :16] = 1
    test = torch.where(masks > 0, 0.8 + 0.2 * test, test)
    labels, known = masks.amax((1, 2, 3)).long(), torch.ones(16, dtype=torch.bool)
    features = [network(x) for x in (train, test)]
    network.remember(train, features[0])
    network.remember(test, features[1])
    samples = {"image": test, "label": labels, "mask": masks, "has_mask": known}
    return Category("noise", train, features[0], samples, features[1])


@pytest.fixture
def make_result():
    def make(category, method, **fields):
        figures = {"image_auroc": 0.9, "pixel_auroc": 0.8, "aupro": 0.6, "fit_cpu_seconds": 2.0}
        return Result(category, method, **figures | {"images_per_cpu_second": 10.0} | fields)

    return make


def test_known_features_are_not_computed_again(network, category):
    network.network.seen = 0
    images = torch.cat([category.test["image"][:2], torch.zeros(1, 3, SIDE, SIDE)])[[0, 2, 1]]
    features = network(images)
    assert network.network.seen == 1
    torch.testing.assert_close(features, network.network(images))


def test_forgotten_features_are_computed_again(network, category):
    network.forget()
    network.network.seen = 0
    network(category.test["image"])
    assert network.network.seen == len(category.test["image"])


def test_gaussians_find_a_bright_corner(network, category):
    result = measure(Gaussians(network), category)
    assert result.image_auroc == 1
    assert result.pixel_auroc > 0.9
    assert result.aupro > 0.9
    assert result.fit_cpu_seconds > 0
    assert result.images_per_cpu_second > 0


def test_anomalib_gets_the_same_features(category):
    methods = pytest.importorskip("benchmarks.detection.anomalib_methods", exc_type=ImportError)
    for method in (methods.PaDiM(GRID, seed=0), methods.PatchCore(GRID, coreset=0.2, seed=0)):
        result = measure(method, category)
        assert result.image_auroc == 1
        assert result.pixel_auroc > 0.9


def test_ratios_refer_to_the_first_method_of_a_category(make_result, tmp_path):
    results = [
        make_result("a", "first"),
        make_result("a", "second", aupro=0.8, fit_cpu_seconds=4.0, images_per_cpu_second=5.0),
        make_result("b", "third", image_auroc=1.0),
    ]
    rows = report.markdown(results).splitlines()
    assert rows[3] == "| a | second | 0.900 | 0.800 | 0.800 | 0.50x | 4.0, 2.00x | 5.0, 0.50x |"
    assert list(report.write(results, {"seed": 0}, tmp_path)) == [
        tmp_path / "detection.json",
        tmp_path / "detection.md",
    ]
    written = json.loads((tmp_path / "detection.json").read_text())
    assert written["seed"] == 0
    _, second, third = [result["times_first"] for result in written["results"]]
    assert math.isclose(second["1 - aupro"], 0.5)
    assert third["1 - image_auroc"] is None
    assert third["fit_cpu_seconds"] == 1


def test_the_command_measures_a_folder_and_says_how_to_get_anomalib(monkeypatch, tmp_path, capsys, category):
    folders = {"train/good": category.train[:8], "test/good": category.test["image"][4:6]}
    for folder, images in (folders | {"test/bright": category.test["image"][:2]}).items():
        (tmp_path / "noise" / folder).mkdir(parents=True)
        for number, image in enumerate(images):
            pixels = (255 * image).byte().movedim(0, -1).numpy()
            Image.fromarray(pixels).save(tmp_path / "noise" / folder / f"{number}.png")
    monkeypatch.setattr(command, "make_backbone", lambda *_: Cells())
    monkeypatch.setitem(sys.modules, "anomalib", None)
    monkeypatch.delitem(sys.modules, "benchmarks.detection.anomalib_methods", raising=False)
    arguments = [
        "--root",
        tmp_path,
        "--categories",
        "noise",
        "--image-size",
        SIDE,
        "--output",
        tmp_path / "out",
    ]
    monkeypatch.setattr(sys, "argv", ["detection", *map(str, arguments)])
    command.main()
    assert "pip install" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "detection.json").read_text())
    methods = [result["method"] for result in written["results"]]
    assert methods == ["vtadl: Gaussian per position", "vtadl: chosen experts"]
