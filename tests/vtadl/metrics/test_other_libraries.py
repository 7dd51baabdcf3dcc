"""All metrics agree with those of other libraries."""

import numpy as np
import pytest
import torch

from vtadl.metrics import DetectionMetrics

LEVELS = 500  # different scores, which are whole multiples of 2^-9 and therefore not rounded


@pytest.fixture(scope="module")
def data():
    """Scores and labels of images, and maps and masks, whose scores have ties."""
    rng = np.random.default_rng(0)
    masks = np.zeros((8, 1, 40, 50), np.int64)
    for index in range(1, 8, 2):
        top, left = rng.integers(0, 20, 2)
        masks[index, 0, top : top + 9, left : left + 4 * index] = 1
        masks[index, 0, 33:36, 45:48] = masks[index, 0, 36, 48] = 1
    maps = rng.integers(0, LEVELS, masks.shape) // (2 - masks) / 512
    labels = masks.any((1, 2, 3)).astype(np.int64)
    scores = (rng.integers(0, 300, 8) + 150 * labels) / 512
    return tuple(map(torch.from_numpy, (scores, labels, maps, masks)))


@pytest.fixture(scope="module")
def computed(data):
    metrics = DetectionMetrics()
    metrics.update(*data, torch.ones(8, dtype=torch.bool))
    return metrics.compute()


def of_images_and_pixels(data):
    scores, labels, maps, masks = data
    return {"image": (scores, labels), "pixel": (maps.flatten(), masks.flatten())}


@pytest.mark.parametrize("kind", ["image", "pixel"])
def test_scikit_learn_and_scipy(data, computed, kind):
    sklearn = pytest.importorskip("sklearn.metrics")
    scores, labels = (values.numpy() for values in of_images_and_pixels(data)[kind])
    assert computed[f"{kind}_auroc"] == pytest.approx(sklearn.roc_auc_score(labels, scores))
    expected = sklearn.average_precision_score(labels, scores)
    assert computed[f"{kind}_average_precision"] == pytest.approx(expected)
    f1 = [sklearn.f1_score(labels, scores >= threshold) for threshold in np.unique(scores)]
    assert computed[f"{kind}_f1_max"] == pytest.approx(max(f1))
    stats = pytest.importorskip("scipy.stats")
    above = stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert computed[f"{kind}_auroc"] == pytest.approx(above / (labels == 1).sum() / (labels == 0).sum())


@pytest.mark.parametrize("kind", ["image", "pixel"])
def test_torchmetrics(data, computed, kind):
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    scores, labels = of_images_and_pixels(data)[kind]
    assert computed[f"{kind}_auroc"] == pytest.approx(binary_auroc(scores, labels).item(), abs=1e-6)
    expected = binary_average_precision(scores, labels).item()
    assert computed[f"{kind}_average_precision"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["image", "pixel"])
def test_anomalib(data, computed, kind):
    auroc = pytest.importorskip("anomalib.metrics.auroc", exc_type=ImportError)
    f1_score = pytest.importorskip("anomalib.metrics.f1_score", exc_type=ImportError)
    pairs = (("auroc", auroc._AUROC), ("f1_max", f1_score._F1Max))
    for name, metric in pairs:
        other = metric()
        other.update(*of_images_and_pixels(data)[kind])
        assert computed[f"{kind}_{name}"] == pytest.approx(other.compute().item(), abs=1e-5)


@pytest.mark.parametrize(("name", "limit"), [("aupro", 0.3), ("aupro_0.05", 0.05)])
def test_aupro_of_anomalib(data, computed, name, limit):
    aupro = pytest.importorskip("anomalib.metrics.aupro", exc_type=ImportError)
    other = aupro._AUPRO(fpr_limit=limit)
    _, _, maps, masks = data
    other.update(maps[:, 0].float(), masks[:, 0])
    assert computed[name] == pytest.approx(other.compute().item(), abs=1e-5)
