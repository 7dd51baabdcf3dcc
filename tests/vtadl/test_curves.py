import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_precision_recall_curve, binary_roc

from vtadl.curves import BINS, PixelCounts, count, precision_recall, pro, roc


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    labels = rng.random(200) < 0.3
    return np.round(rng.random(200) * 0.7 + 0.3 * labels, 2), labels  # with ties


def test_roc_is_that_of_torchmetrics(samples):
    curve = roc(count(*samples))
    expected = binary_roc(*map(torch.tensor, (samples[0], samples[1].astype(int))))
    np.testing.assert_allclose(curve.x, expected[0], atol=1e-6)
    np.testing.assert_allclose(curve.y, expected[1], atol=1e-6)


def test_precision_and_recall_are_those_of_torchmetrics(samples):
    curve = precision_recall(count(*samples))
    precision, recall, _ = binary_precision_recall_curve(
        *map(torch.tensor, (samples[0], samples[1].astype(int)))
    )
    found = recall > 0
    np.testing.assert_allclose(curve.x[curve.y > 0], recall[found].flip(0), atol=1e-6)
    np.testing.assert_allclose(curve.y[curve.y > 0], precision[found].flip(0), atol=1e-6)


def test_pixels_are_counted_at_their_scores_and_each_region_counts_one():
    normalised = np.array([[0.0, 0.2, 0.9], [1.0, 0.2, 0.6]], dtype=np.float32)
    mask = np.array([[1, 0, 1], [1, 0, 0]], dtype=bool)  # two regions, of two pixels and of one
    pixels = PixelCounts()
    pixels.update(normalised, mask)
    assert pixels.bins.sum(1).tolist() == [3, 3, 2]
    assert pixels.bins[1, 0] == 1  # the score 1.0
    assert pixels.bins[1, BINS - 1 - int(0.9 * BINS)] == 1
    curve = pixels.pro()
    assert curve.y[curve.x == 0].max() == pytest.approx(0.75)  # half of one region, all of the other
    assert (curve.x[-1], curve.y[-1]) == (1, 1)


@pytest.mark.parametrize("label", [False, True])
def test_a_curve_that_the_data_do_not_define_is_empty(label):
    counts = count(np.array([0.1, 0.2]), np.array([label, label]))
    assert len(roc(counts).x) == 0
    assert len(precision_recall(counts).x) == (2 if label else 0)
    assert len(pro(np.ones(3), np.zeros(3)).x) == 0
