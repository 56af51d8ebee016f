"""Model cards: what a model is, how well it does, how it is used, in the hub's format."""

from collections.abc import Mapping
from typing import Any

import yaml

from segmenter_pl.interop import Blueprint
from segmenter_pl.models import EncoderDecoder, LinearDecoder, MaskDecoder, Segmenter

USE = """```python
from segmenter_pl import Predictor, from_pretrained

predictor = Predictor(from_pretrained("USER/NAME"))  # or a folder on this disk
labels = predictor.segment("photo.jpg")  # (H, W) class ids
```"""


def model_card(blueprint: Blueprint, results: Mapping[str, Any]) -> str:
    """The text of README.md: metadata for the hub, sizes, results where there are some, and use.

    Args:
        results: content of a results.json, or empty.
    """
    model = blueprint.build()
    dataset = blueprint.info.get("config", {}).get("dataset", {}).get("name")
    found = results.get("val", {})
    head: dict[str, Any] = {"library_name": "segmenter-pl", "pipeline_tag": "image-segmentation", "tags": ["segmenter"]}
    if dataset and "miou" in found:
        metric = {"type": "mean_iou", "name": "mIoU", "value": round(float(found["miou"]), 4)}
        task = {"type": "image-segmentation"}
        result = {"task": task, "dataset": {"type": dataset, "name": dataset}, "metrics": [metric]}
        head["model-index"] = [{"name": "segmenter", "results": [result]}]
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        *_heading(model),
        _facts(blueprint, model, dataset),
        _results(found, dataset),
        "## Use",
        USE,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(model: EncoderDecoder) -> list[str]:
    if not isinstance(model, Segmenter):
        return [f"# {model.title}"]
    if not isinstance(model.decoder, LinearDecoder | MaskDecoder):
        return [
            f"# {model.title}",
            "*Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective* (Zheng et al., CVPR 2021).",
        ]
    return [
        "# Segmenter",
        "*Segmenter: Transformer for Semantic Segmentation* (Strudel, Garcia, Laptev, Schmid, ICCV 2021).",
    ]


def _facts(blueprint: Blueprint, model: EncoderDecoder, dataset: str | None) -> str:
    spec, encoder = blueprint.spec, model.encoder
    millions = sum(value.numel() for value in blueprint.state.values()) / 1e6
    rows = {
        "encoder": (
            f"ViT, {encoder.depth} blocks of width {encoder.width}, patches of {encoder.patch_size} pixels"
            if isinstance(model, Segmenter)
            else blueprint.backbone["model_name"]
        ),
        "decoder": blueprint.decoder["_target_"].rpartition(".")[2],
        "parameters": f"{millions:.2f} M",
        "classes": f"{blueprint.num_classes}" + (f" ({dataset})" if dataset else ""),
        "window, stride": f"{spec.window}, {spec.stride} pixels",
        "short side": f"{spec.short_side} pixels" if spec.short_side else "the picture's own",
        "made by": f"{blueprint.source}'s checkpoint",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _results(found: Mapping[str, Any], dataset: str | None) -> str:
    keys = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy"}
    rows = [f"| {name} | {found[key]:.4f} |" for key, name in keys.items() if key in found]
    if not rows:
        return ""
    rows += [f"| IoU of {name} | {iou:.4f} |" for name, iou in found.get("classes", {}).items() if iou is not None]
    return "\n".join([f"## Results{f' on {dataset}, val' if dataset else ''}", "", "| | |", "|---|---|", *rows])
