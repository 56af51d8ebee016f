"""Exact operations on upsampled patch logits that never hold a K x H x W tensor."""

from segmenter_pl.ops.cross_entropy import pixel_weight, upsampled_cross_entropy

__all__ = ["pixel_weight", "upsampled_cross_entropy"]
