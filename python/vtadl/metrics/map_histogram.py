"""The histogram of an anomaly map at the size of its mask."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from vtadl.metrics.histogram import EMPTY_HISTOGRAM, ScoreHistogram, merge, score_histogram
from vtadl.metrics.regions import Regions

STRIP_PIXELS = 2**20  # of a map that are held at once at the size of the mask


def map_histogram(anomaly_map: Tensor, mask: Tensor) -> ScoreHistogram:
    """Computes the histogram of an anomaly map [h, w], brought to the size of its mask [H, W].

    The interpolation is bilinear. Strips of rows are counted one after another, so that the scores of a large
    mask are never held at once.
    """
    regions = Regions((mask > 0).cpu().numpy())
    histogram = EMPTY_HISTOGRAM
    for rows, strip in resized_strips(anomaly_map.float().cpu(), (mask.shape[0], mask.shape[1])):
        scores, marked = strip.numpy(), regions.mask[rows]
        counts = score_histogram(scores[~marked], scores[marked], regions.weights(rows))
        histogram = merge([histogram, counts]) if len(histogram.bins) else counts
    return histogram


def resized_strips(values: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Yields strips of rows of `values` [h, w], resized to `size` (height, width) by bilinear interpolation.

    The strips are those of `torch.nn.functional.interpolate` but for rounding.
    """
    height, width = size
    widened = F.interpolate(values[None, None], (len(values), width), mode="bilinear")[0, 0]
    step = max(1, STRIP_PIXELS // width)
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        centres = torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5
        positions = (centres * (len(values) / height) - 0.5).clamp(0, len(values) - 1)
        above = positions.long()
        below = (above + 1).clamp(max=len(values) - 1)
        yield rows, torch.lerp(widened[above], widened[below], (positions - above).float()[:, None])
