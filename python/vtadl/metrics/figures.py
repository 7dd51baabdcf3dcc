"""The figures of detection, from counts of negatives and positives at each distinct score.

Every function takes arrays [..., M] whose last dimension runs over distinct scores from the largest down, so
that equal scores are one threshold. The leading dimensions are independent evaluations. Results are [...] in
[0, 1], and NaN where there is no negative or no positive.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FPR_LIMIT = 0.3  # of AUPRO, as Bergmann et al. have it


def auroc(negatives: Array, positives: Array) -> Array:
    """Probability that a positive scores above a negative; equal scores count half."""
    above = positives.cumsum(-1) - 0.5 * positives
    return _ratio((negatives * above).sum(-1), negatives.sum(-1) * positives.sum(-1))


def average_precision(negatives: Array, positives: Array) -> Array:
    """Precision averaged over the positives: the area under precision and recall, without interpolation."""
    hits = positives.cumsum(-1)
    precision = hits / np.maximum(hits + negatives.cumsum(-1), np.finfo(float).tiny)
    found = _ratio((positives * precision).sum(-1), positives.sum(-1))
    return np.where(negatives.sum(-1) > 0, found, np.nan)


def f1_max(negatives: Array, positives: Array) -> Array:
    """The largest F1 over all thresholds."""
    hits, total = positives.cumsum(-1), positives.sum(-1, keepdims=True)
    best = _ratio(2 * hits, hits + negatives.cumsum(-1) + total).max(-1, initial=0)
    return np.where((negatives.sum(-1) > 0) & (total[..., 0] > 0), best, np.nan)


def aupro(negatives: Array, shares: Array, fpr_limit: float = FPR_LIMIT) -> Array:
    """Area under the per-region overlap up to a false-positive rate, divided by that rate.

    Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021: at each threshold the overlap is the
    detected fraction of a connected region of the ground truth, averaged over the regions of all images, and
    the false-positive rate is that of the normal pixels of all images. Between thresholds the curve is
    linear.

    Args:
        negatives: Normal pixels at each score [..., M].
        shares: Regions at each score [..., M]; a pixel is 1 / area of its region.
        fpr_limit: Where the integration stops, in (0, 1].
    """
    x1, y1 = running_share(negatives), running_share(shares)
    x0, y0 = (np.concatenate([np.zeros_like(v[..., :1]), v[..., :-1]], -1) for v in (x1, y1))
    end = np.clip(fpr_limit, x0, x1)
    slope = (y1 - y0) / np.maximum(x1 - x0, np.finfo(float).tiny)
    areas = (end - x0) * (y0 + 0.5 * slope * (end - x0))
    return areas.sum(-1) / fpr_limit


def running_share(counts: Array) -> Array:
    """The share of counts [..., M] at each score or above it."""
    return _ratio(counts.cumsum(-1), counts.sum(-1, keepdims=True))


def _ratio(numerator: Array, denominator: Array) -> Array:
    safe = np.where(denominator > 0, denominator, 1)
    return np.where(denominator > 0, numerator / safe, np.nan)


FIGURES = {"auroc": auroc, "average_precision": average_precision, "f1_max": f1_max}


def image_figures(negatives: Array, positives: Array) -> dict[str, Array]:
    """All figures of image scores by name."""
    return {f"image_{name}": figure(negatives, positives) for name, figure in FIGURES.items()}


def pixel_figures(negatives: Array, positives: Array, shares: Array) -> dict[str, Array]:
    """All figures of anomaly maps by name."""
    figures = {f"pixel_{name}": figure(negatives, positives) for name, figure in FIGURES.items()}
    return figures | {"aupro": aupro(negatives, shares)}
