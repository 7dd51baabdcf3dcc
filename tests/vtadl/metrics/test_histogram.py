import numpy as np
import pytest
import torch

from vtadl.metrics.functional import auroc
from vtadl.metrics.histogram import (
    coarsen,
    coarsen_bins,
    descending_counts,
    merge,
    score_bins,
)
from vtadl.metrics.map_histogram import map_histogram


def make_histogram(scores, mask):
    return map_histogram(torch.from_numpy(scores), torch.from_numpy(mask))


def make_scores(spread, count=20_000):
    return (np.random.default_rng(0).normal(size=count) * spread).astype(np.float32)


@pytest.mark.parametrize("spread", [1e-30, 1e-3, 1.0, 1e30])
@pytest.mark.parametrize("offset", [0.0, -1000.0])
def test_bins_keep_the_order_of_scores_and_separate_those_that_differ_in_sixteen_bits(spread, offset):
    scores = np.sort(make_scores(spread) + np.float32(offset))
    keys = score_bins(scores)
    assert (np.diff(keys) >= 0).all()
    close = np.diff(keys) == 0
    assert (np.diff(scores)[close] <= 2.0**-15 * np.abs(scores[1:])[close]).all()


def test_both_zeros_have_the_same_bin():
    assert len(set(score_bins(np.array([0.0, -0.0], np.float32)))) == 1


def test_a_histogram_counts_every_pixel_once_and_every_region_once():
    scores, mask = make_scores(1.0, 40 * 50).reshape(40, 50), np.zeros((40, 50), bool)
    mask[3:9, 4:20] = mask[30:33, 40:45] = True
    histogram = make_histogram(scores, mask)
    assert (np.diff(histogram.bins) > 0).all()
    assert histogram.negatives.sum() == (~mask).sum()
    assert histogram.positives.sum() == mask.sum()
    assert histogram.region_weights.sum() == pytest.approx(2)


def test_the_sum_of_histograms_is_the_histogram_of_all():
    scores, mask = make_scores(1.0, 40 * 50).reshape(40, 50), np.zeros((40, 50), bool)
    mask[3:9, 4:20] = True
    parts = [make_histogram(scores[rows], mask[rows]) for rows in (slice(0, 20), slice(20, 40))]
    for column, expected in zip(merge(parts), make_histogram(scores, mask), strict=True):
        np.testing.assert_allclose(column, expected)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_coarse_histogram_has_few_rows_and_nearly_the_same_metrics(offset):
    scores, mask = make_scores(1.0, 100 * 100).reshape(100, 100), np.zeros((100, 100), bool)
    mask[20:50, 30:60] = True
    fine = make_histogram(scores + mask + np.float32(offset), mask)
    coarse = coarsen(fine, 512)
    assert 128 < len(coarse.bins) <= 512
    exact, rounded = (auroc(*descending_counts(histogram)[:2]) for histogram in (fine, coarse))
    assert rounded == pytest.approx(exact, abs=2e-3)


def test_few_bins_stay_unchanged():
    keys = np.array([5, 6, 1000, 6], np.int32)
    assert coarsen_bins(keys, 3).tolist() == keys.tolist()
    assert len(set(coarsen_bins(keys, 2))) == 2
