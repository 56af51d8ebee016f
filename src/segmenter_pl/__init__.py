"""Segmenter: Transformer for Semantic Segmentation, with PyTorch Lightning and Hydra.

Names are loaded when they are first used, so that importing the package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segmenter_pl.checkpoint import load_segmenter
    from segmenter_pl.export.pretrained import from_pretrained, push_to_hub, save_pretrained
    from segmenter_pl.factory import create_segmenter
    from segmenter_pl.inference import predict_labels, predict_logits
    from segmenter_pl.models import LinearDecoder, MaskDecoder, SegmentationModel, Segmenter, ViTEncoder
    from segmenter_pl.predictor import Predictor

_HOMES = {
    "load_segmenter": "checkpoint",
    "from_pretrained": "export.pretrained",
    "push_to_hub": "export.pretrained",
    "save_pretrained": "export.pretrained",
    "create_segmenter": "factory",
    "predict_labels": "inference",
    "predict_logits": "inference",
    "EncoderDecoder": "models",
    "LinearDecoder": "models",
    "MaskDecoder": "models",
    "SegmentationModel": "models",
    "Segmenter": "models",
    "ViTEncoder": "models",
    "Predictor": "predictor",
}

__all__ = [
    "EncoderDecoder",
    "LinearDecoder",
    "MaskDecoder",
    "Predictor",
    "SegmentationModel",
    "Segmenter",
    "ViTEncoder",
    "create_segmenter",
    "from_pretrained",
    "load_segmenter",
    "predict_labels",
    "predict_logits",
    "push_to_hub",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
