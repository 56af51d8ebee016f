"""Models: torch and timm only; RGB pixels in, logits out."""

from segmenter_pl.models.decoders import LinearDecoder, MaskDecoder
from segmenter_pl.models.encoder import ViTEncoder
from segmenter_pl.models.segmenter import ModelSpec, SegmentationModel, Segmenter

__all__ = ["LinearDecoder", "MaskDecoder", "ModelSpec", "SegmentationModel", "Segmenter", "ViTEncoder"]
