"""torch.hub entry points: torch.hub.load("USER/segmenter-pl", "segmenter", "seg_t_mask16_ade20k")."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "src"))

dependencies = [
    "torch",
    "timm",
    "numpy",
    "omegaconf",
    "PIL",
    "yaml",
    "safetensors",
    "huggingface_hub",
    "requests",
    "rich",
]


def segmenter(path: str, **options: Any) -> Any:
    """A model with its weights, in evaluation mode: `segmenter_pl.load_segmenter(path, **options)`.

    Args:
        path: a checkpoint, or the name of a published model.
        options: mean, std.
    """
    from segmenter_pl import load_segmenter

    return load_segmenter(path, **options)


def create(backbone: str = "vit_t16", decoder: str = "mask", **options: Any) -> Any:
    """A model to be trained: `segmenter_pl.create_segmenter(backbone, decoder, **options)`.

    Args:
        options: num_classes, image_size, pretrained, weights.
    """
    from segmenter_pl import create_segmenter

    return create_segmenter(backbone, decoder, **options)
