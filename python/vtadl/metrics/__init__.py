"""Evaluation: figures of detection and localisation, their intervals, and a table by kind of defect."""

from vtadl.metrics.curves import Curve
from vtadl.metrics.detection import DetectionMetrics
from vtadl.metrics.evaluation import Evaluation

__all__ = ["Curve", "DetectionMetrics", "Evaluation"]
