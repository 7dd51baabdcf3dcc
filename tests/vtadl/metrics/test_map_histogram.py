"""Maps are brought to the size of their masks, in strips."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.draw import line
from skimage.measure import label

from vtadl.metrics import DetectionMetrics
from vtadl.metrics.map_histogram import map_histogram, resized_strips


@pytest.mark.parametrize("size", [(9, 7), (9, 20), (40, 7), (33, 50), (4, 3), (1, 1)])
@pytest.mark.parametrize("strip_pixels", [1, 120, 2**20])
def test_strips_are_those_of_the_whole_interpolated_map(monkeypatch, size, strip_pixels):
    monkeypatch.setattr("vtadl.metrics.map_histogram.STRIP_PIXELS", strip_pixels)
    values = torch.rand(9, 7)
    rows, strips = zip(*resized_strips(values, size), strict=True)
    assert [row for part in rows for row in range(part.start, part.stop)] == list(range(size[0]))
    assert len(strips) == 1 or max(strip.numel() for strip in strips) <= max(strip_pixels, size[1])
    expected = F.interpolate(values[None, None], size, mode="bilinear")[0, 0]
    torch.testing.assert_close(torch.cat(strips), expected)


def test_a_map_of_the_size_of_its_mask_is_not_changed():
    values = torch.rand(9, 7)
    ((_, strip),) = resized_strips(values, (9, 7))
    assert torch.equal(strip, values)


def test_strips_of_a_map_have_the_histogram_of_the_whole(monkeypatch):
    values, mask = torch.rand(12, 10), torch.zeros(40, 30)
    mask[3:18, 5:9] = mask[25:39, 20:25] = mask[37:40, :2] = 1
    whole = map_histogram(values, mask)
    assert whole.region_weights.sum() == pytest.approx(3)
    assert whole.positives.sum() == mask.sum()
    monkeypatch.setattr("vtadl.metrics.map_histogram.STRIP_PIXELS", 70)
    for column, expected in zip(map_histogram(values, mask), whole, strict=True):
        np.testing.assert_allclose(column, expected)


def evaluated(maps, masks, sizes):
    metrics = DetectionMetrics()
    for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        resized = F.interpolate(values[None], sizes[index], mode="bilinear")
        known = torch.tensor([True])
        metrics.update(torch.tensor([float(index)]), torch.tensor([index % 2]), resized, mask[None], known)
    return metrics.compute()


def test_masks_of_different_sizes_are_evaluated_at_their_own():
    sizes = [(40, 30), (24, 32), (8, 8), (90, 70)]
    maps = torch.rand(4, 1, 24, 32)
    masks = [torch.zeros(1, *size) for size in sizes]
    masks[1][:, 5:9, 3:20] = masks[3][:, 10:80, 60:] = 1
    metrics = DetectionMetrics()
    metrics.update(torch.arange(4.0), torch.arange(4) % 2, maps, masks, torch.ones(4, dtype=torch.bool))
    at_masks = evaluated(maps, masks, sizes)
    assert metrics.compute() == pytest.approx(at_masks, abs=1e-4)
    shrunk = [F.interpolate(mask[None], (24, 32), mode="nearest")[0] for mask in masks]
    at_maps = evaluated(maps, shrunk, [(24, 32)] * 4)
    assert at_maps["pixel_auroc"] != pytest.approx(at_masks["pixel_auroc"], abs=1e-4)


def test_thin_scratches_are_as_many_regions_as_they_are():
    mask, rng = np.zeros((512, 512), bool), np.random.default_rng(0)
    for row in range(25, 500, 50):
        mask[line(row, 10, row + int(rng.integers(5, 20)), 500)] = True
    assert label(mask, connectivity=2).max() == 10
    shrunk = F.interpolate(torch.from_numpy(mask)[None, None].float(), (128, 128), mode="nearest")[0, 0]
    assert label(shrunk.numpy() > 0, connectivity=2).max() > 20
    histogram = map_histogram(torch.rand(128, 128), torch.from_numpy(mask))
    assert histogram.region_weights.sum() == pytest.approx(10)
