"""Exact operations on upsampled patch logits that never hold a K x H x W tensor."""

from segmenter_pl.ops.cross_entropy import pixel_weight, upsampled_cross_entropy
from segmenter_pl.ops.torch_scores import best_class

__all__ = ["best_class", "pixel_weight", "upsampled_cross_entropy"]
