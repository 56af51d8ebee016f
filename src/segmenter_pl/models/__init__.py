"""Models: torch and timm only; RGB pixels in, logits out."""

from segmenter_pl.models.decoders import LinearDecoder, MaskDecoder
from segmenter_pl.models.encoder import ViTEncoder
from segmenter_pl.models.pyramid import PyramidEncoder
from segmenter_pl.models.pyramid_decoders import DeepLabV3PlusDecoder, UPerNetDecoder
from segmenter_pl.models.segmenter import EncoderDecoder, ModelSpec, SegmentationModel, Segmenter
from segmenter_pl.models.setr import SETRMLA, SETRPUP, SETRNaive

__all__ = [
    "SETRMLA",
    "SETRPUP",
    "DeepLabV3PlusDecoder",
    "EncoderDecoder",
    "LinearDecoder",
    "MaskDecoder",
    "ModelSpec",
    "PyramidEncoder",
    "SETRNaive",
    "SegmentationModel",
    "Segmenter",
    "UPerNetDecoder",
    "ViTEncoder",
]
