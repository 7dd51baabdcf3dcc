"""Evaluation: detection and localisation metrics, confidence intervals, and a table by kind of defect."""

from vtadl.metrics.categories import CategoryEvaluations, CategoryMetrics, mean_metrics
from vtadl.metrics.curves import Curve
from vtadl.metrics.detection import DetectionMetrics
from vtadl.metrics.evaluation import Evaluation

__all__ = [
    "CategoryEvaluations",
    "CategoryMetrics",
    "Curve",
    "DetectionMetrics",
    "Evaluation",
    "mean_metrics",
]
