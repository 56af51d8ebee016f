"""Evaluation of a trained model: the LightningModule, what goes on around it, and what is written."""

from segmenter_pl.evaluation.callbacks import EvaluationProgress, Fraction, LabelWriter
from segmenter_pl.evaluation.task import TTA, EvaluationTask

__all__ = ["TTA", "EvaluationProgress", "EvaluationTask", "Fraction", "LabelWriter"]
