"""Metrics of detection, computed from the counts of negatives and positives at each distinct score.

Every function takes arrays [..., M], whose last dimension runs over the distinct scores in descending order;
equal scores are one threshold. Leading dimensions are independent evaluations. Results have the shape [...]
and lie in [0, 1]; they are NaN where there are no negatives or no positives.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
MAX_FPR = 0.3  # the upper limit of AUPRO in Bergmann et al., 2021
LOW_MAX_FPR = 0.05  # the upper limit of AUPRO in MVTec AD 2 (Heckler-Kram et al., 2025)


def auroc(negatives: FloatArray, positives: FloatArray) -> FloatArray:
    """Computes the probability that a positive scores above a negative; a tie counts as one half."""
    above = positives.cumsum(-1) - 0.5 * positives
    return _ratio((negatives * above).sum(-1), negatives.sum(-1) * positives.sum(-1))


def average_precision(negatives: FloatArray, positives: FloatArray) -> FloatArray:
    """Computes the mean precision over the positives: the area under the uninterpolated PR curve."""
    true_positives = positives.cumsum(-1)
    precision = true_positives / np.maximum(true_positives + negatives.cumsum(-1), np.finfo(float).tiny)
    average = _ratio((positives * precision).sum(-1), positives.sum(-1))
    return np.where(negatives.sum(-1) > 0, average, np.nan)


def f1_max(negatives: FloatArray, positives: FloatArray) -> FloatArray:
    """Computes the largest F1 score over all thresholds."""
    true_positives, total = positives.cumsum(-1), positives.sum(-1, keepdims=True)
    f1 = _ratio(2 * true_positives, true_positives + negatives.cumsum(-1) + total)
    return np.where((negatives.sum(-1) > 0) & (total[..., 0] > 0), f1.max(-1, initial=0), np.nan)


def aupro(negatives: FloatArray, region_weights: FloatArray, max_fpr: float = MAX_FPR) -> FloatArray:
    """Computes the area under the per-region overlap curve up to `max_fpr`, divided by `max_fpr`.

    Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021: the overlap at a threshold is the
    detected fraction of a connected region of the ground truth, averaged over the regions of all images, and
    the false-positive rate is that of the normal pixels of all images. The curve is linear between
    thresholds.

    Args:
        negatives: Numbers of normal pixels at each score [..., M].
        region_weights: Sums, at each score [..., M], of the weights of anomalous pixels. The weight of a
            pixel is 1 / area of its region.
        max_fpr: False-positive rate at which the integration stops, in (0, 1].
    """
    x1, y1 = cumulative_fraction(negatives), cumulative_fraction(region_weights)
    x0, y0 = (np.concatenate([np.zeros_like(v[..., :1]), v[..., :-1]], -1) for v in (x1, y1))
    end = np.clip(max_fpr, x0, x1)
    slope = (y1 - y0) / np.maximum(x1 - x0, np.finfo(float).tiny)
    areas = (end - x0) * (y0 + 0.5 * slope * (end - x0))
    return areas.sum(-1) / max_fpr


def cumulative_fraction(counts: FloatArray) -> FloatArray:
    """Computes the fraction of the counts [..., M] that lies at each score or above it."""
    return _ratio(counts.cumsum(-1), counts.sum(-1, keepdims=True))


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    safe = np.where(denominator > 0, denominator, 1)
    return np.where(denominator > 0, numerator / safe, np.nan)


BINARY_METRICS = {"auroc": auroc, "average_precision": average_precision, "f1_max": f1_max}


def image_metrics(negatives: FloatArray, positives: FloatArray) -> dict[str, FloatArray]:
    """Computes all metrics of image scores, by name."""
    return {f"image_{name}": metric(negatives, positives) for name, metric in BINARY_METRICS.items()}


def pixel_metrics(
    negatives: FloatArray, positives: FloatArray, region_weights: FloatArray
) -> dict[str, FloatArray]:
    """Computes all metrics of anomaly maps, by name."""
    metrics = {f"pixel_{name}": metric(negatives, positives) for name, metric in BINARY_METRICS.items()}
    return metrics | {
        "aupro": aupro(negatives, region_weights),
        f"aupro_{LOW_MAX_FPR}": aupro(negatives, region_weights, LOW_MAX_FPR),
    }
