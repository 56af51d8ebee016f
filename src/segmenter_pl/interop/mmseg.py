"""Checkpoints of MMSegmentation's Segmenter, 0.x and 1.x: ViT encoder, mask or one-convolution linear head."""

from collections.abc import Mapping
from typing import Any

from segmenter_pl.interop.blueprint import Blueprint, require_plain, require_segmenter, sizes_of
from segmenter_pl.models import ModelSpec
from segmenter_pl.weights.fitting import open_containers
from segmenter_pl.weights.names import MMSEG

MODEL_NAME = "vit_tiny_patch16_384.augreg_in21k_ft_in1k"  # sizes come from the file
STATISTICS = (0.5, 0.5, 0.5)  # its data preprocessor's 127.5, for every Segmenter configuration
OVERLAP = 32  # its test windows overlap by so many pixels
ENCODER_EPS, DECODER_EPS = 1e-6, 1e-5


def read_mmseg(data: Mapping[str, Any], source: str = MMSEG.source) -> Blueprint:
    """A blueprint from a checkpoint's content; its optimizer, history and configuration text are not looked at.

    Raises: ValueError for names that are not a Segmenter's (listed), or that are missing.
    """
    state = open_containers(data)
    known, rest = MMSEG.ours(state)
    if rest:
        raise ValueError(f"names that are no Segmenter's: {', '.join(rest[:8])}{' …' if len(rest) > 8 else ''}")
    sizes = sizes_of(known, source)
    statistics = {"mean": STATISTICS, "std": STATISTICS}
    eps = {"norm_eps": ENCODER_EPS, "final_norm_eps": ENCODER_EPS}
    side = sizes.grid * sizes.patch
    meta = data.get("meta")
    classes, palette = _classes(meta if isinstance(meta, Mapping) else {}, sizes.classes)
    return Blueprint(
        source,
        sizes.backbone(MODEL_NAME, position_mode="bicubic", **eps, **statistics),
        sizes.decoder(dropout=0.0, drop_path_rate=0.1, block_norm_eps=DECODER_EPS),
        sizes.classes,
        known,
        ModelSpec(classes, palette, 255, window=side, stride=max(side - OVERLAP, sizes.patch), short_side=side),
        {},
    )


def _classes(meta: Mapping[str, Any], count: int) -> tuple[Any, Any]:
    """Names and colours where a checkpoint has them: dataset_meta in 1.x, CLASSES and PALETTE in 0.x."""
    found = meta.get("dataset_meta")
    found = found if isinstance(found, Mapping) else {key.lower(): meta.get(key) for key in ("CLASSES", "PALETTE")}
    names, colors = found.get("classes"), found.get("palette")
    if not isinstance(names, list | tuple) or len(names) != count:
        return None, None
    palette = None
    if isinstance(colors, list | tuple) and len(colors) == count:
        palette = tuple((int(r), int(g), int(b)) for r, g, b in colors)
    return tuple(str(name).strip() for name in names), palette


def write_mmseg(blueprint: Blueprint) -> dict[str, Any]:
    """What MMSegmentation loads. Raises: ValueError for parts that it does not have."""
    model = require_segmenter(blueprint.build(), MMSEG.source)
    state, sizes = MMSEG.theirs(blueprint.state), sizes_of(blueprint.state, blueprint.source)
    require_plain(model, MMSEG.source)
    if any(block.attn.num_heads != sizes.width // 64 for block in model.encoder.vit.blocks):
        raise ValueError(
            "a checkpoint for MMSegmentation does not tell the attention heads: one per 64 channels is meant"
        )
    spec, meta = blueprint.spec, {}
    if spec.classes and spec.palette:
        meta["dataset_meta"] = {"classes": list(spec.classes), "palette": [list(color) for color in spec.palette]}
    return {"meta": meta, "state_dict": state}
