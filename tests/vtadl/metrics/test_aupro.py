"""AUPRO against values computed by hand, and against a direct computation from the definition."""

import numpy as np
import pytest
import torch

from vtadl.metrics import DetectionMetrics
from vtadl.metrics.regions import Regions


def aupro(maps, masks):
    count = len(maps)
    metrics = DetectionMetrics()
    metrics.update(
        torch.arange(count).float(),
        torch.arange(count) % 2,
        torch.from_numpy(maps).float()[:, None],
        torch.from_numpy(masks).float()[:, None],
        torch.ones(count, dtype=torch.bool),
    )
    return metrics.compute()["aupro"]


def regions_of(mask):
    """Yields the pixels of each region, found by spreading from one pixel to its eight neighbours."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    while left:
        region, edge = set(), {left.pop()}
        while edge:
            region |= edge
            edge = {(r + i, c + j) for r, c in edge for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= edge
        yield tuple(np.array(sorted(region)).T)


def brute_force(maps, masks, limit=0.3):
    """Applies the definition: one point of the curve per threshold, then the trapezoidal rule."""
    regions = [
        anomaly_map[region]
        for anomaly_map, mask in zip(maps, masks, strict=True)
        for region in regions_of(mask)
    ]
    normal = maps[masks == 0]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        curve.append((np.mean(normal >= threshold), overlap))
    fpr, overlap = np.array(curve).T
    inside = fpr < limit
    x = np.append(fpr[inside], limit)
    y = np.append(overlap[inside], np.interp(limit, fpr, overlap))
    return np.trapezoid(y, x) / limit


def test_an_example_computed_by_hand():
    # Regions: {9, 7} and {5}; normal pixels 8, 6, 4, 3, 2, 1, 0, 0, 0, 0. The curve (false-positive rate,
    # overlap): (0, 1/4) at 9, (.1, 1/4) at 8, (.1, 1/2) at 7, (.2, 1/2) at 6, (.2, 1) at 5, (.3, 1) at 4.
    maps = np.array([[[9.0, 7, 8, 5, 6, 4, 3, 2, 1, 0, 0, 0, 0]]])
    masks = np.array([[[1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]])
    assert aupro(maps, masks) == pytest.approx((0.1 * 0.25 + 0.1 * 0.5 + 0.1 * 1) / 0.3)


def test_equal_scores_are_one_step_of_the_curve():
    # All pixels score the same: the curve is the straight line from (0, 0) to (1, 1).
    maps, masks = np.zeros((1, 4, 4)), np.zeros((1, 4, 4), int)
    masks[0, 0, 0] = 1
    assert aupro(maps, masks) == pytest.approx(0.3 / 2)


def test_a_small_region_counts_as_much_as_a_large_one():
    maps, masks = np.zeros((1, 20, 20)), np.zeros((1, 20, 20), int)
    masks[0, :10, :10] = masks[0, 15, 15] = 1
    maps[0, :10, :10] = 1
    # The single pixel scores like the normal ones, so that its overlap is the false-positive rate.
    assert aupro(maps, masks) == pytest.approx((1 + 0.3 / 2) / 2)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.eye(3, dtype=bool)
    assert Regions(mask).weights(slice(0, 3)).tolist() == [1 / 3] * 3


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_the_definition_computed_directly(seed):
    rng = np.random.default_rng(seed)
    masks = (rng.random((3, 9, 11)) < 0.15).astype(int)
    levels = rng.choice([4, 40, 5000])
    maps = rng.integers(0, levels, masks.shape) + rng.choice([0, 0.3 * levels]) * masks
    maps = np.floor(maps) - levels // 2  # whole numbers, which the histogram keeps exactly
    assert aupro(maps, masks) == pytest.approx(brute_force(maps, masks), abs=1e-6)


def test_an_image_without_anomaly_adds_false_positives_only():
    rng = np.random.default_rng(0)
    maps, masks = rng.integers(0, 50, (2, 8, 8)).astype(float), np.zeros((2, 8, 8), int)
    masks[1, 2:4, 2:6] = 1
    assert aupro(maps, masks) == pytest.approx(brute_force(maps, masks), abs=1e-6)
    assert aupro(maps, masks) != pytest.approx(aupro(maps[1:], masks[1:]), abs=1e-3)
