"""Semantic segmentation metrics over a whole dataset: sums of whole numbers, the same bits on any number of devices."""

from segmenter_pl.metrics.boundary import BoundaryIoU
from segmenter_pl.metrics.calibration import CalibrationError
from segmenter_pl.metrics.foreground import ForegroundMetrics
from segmenter_pl.metrics.loss import MeanLoss
from segmenter_pl.metrics.objects import ObjectSizeMetrics
from segmenter_pl.metrics.segmentation import SegmentationMetrics, confusion_scores

__all__ = [
    "BoundaryIoU",
    "CalibrationError",
    "ForegroundMetrics",
    "MeanLoss",
    "ObjectSizeMetrics",
    "SegmentationMetrics",
    "confusion_scores",
]
