"""Checkpoints of the authors' implementation (github.com/rstrudel/segmenter): checkpoint.pth beside variant.yml."""

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from segmenter_pl.models import LinearDecoder, MaskDecoder, ModelSpec, Segmenter, ViTEncoder
from segmenter_pl.models.weights import require_match

EPS = 1e-5  # theirs is torch's default in every LayerNorm, also where the ImageNet weights were trained with 1e-6

# (normalization, distilled) -> the timm model with those pixel statistics and prefix tokens; sizes come from the file.
ARCHITECTURES = {
    ("vit", False): "vit_tiny_patch16_384.augreg_in21k_ft_in1k",
    ("deit", False): "deit_tiny_patch16_224.fb_in1k",
    ("deit", True): "deit_tiny_distilled_patch16_224.fb_in1k",
}


def load_official(path: str | Path) -> Segmenter:
    """Load a folder that holds checkpoint.pth and variant.yml, or that checkpoint.pth itself.

    Returns:
        The model in evaluation mode, on the CPU; ``spec`` has the window, stride and short side of its evaluation, but
        no class names, which the files do not tell. The position table stays at its trained grid.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: an architecture of another kind, or names and shapes that do not fit (all are listed).
    """
    path = Path(path)
    checkpoint = path / "checkpoint.pth" if path.is_dir() else path
    variant_file = checkpoint.with_name("variant.yml")
    for file in (checkpoint, variant_file):
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; an official checkpoint is checkpoint.pth with variant.yml")
    variant = yaml.load(variant_file.read_text(encoding="utf-8"), Loader=_TupleLoader)  # a SafeLoader
    model = _build(variant["net_kwargs"], variant["dataset_kwargs"]["normalization"])
    state = _our_names(torch.load(checkpoint, map_location="cpu", weights_only=True)["model"])
    require_match(model.state_dict(), state, str(checkpoint))
    model.load_state_dict(state)
    inference = variant["inference_kwargs"]
    model.spec = ModelSpec(
        classes=None,
        palette=None,
        ignore_index=255,
        window=inference["window_size"],
        stride=inference["window_stride"],
        short_side=inference["im_size"],
    )
    return model.eval()


def _build(net: dict[str, Any], normalization: str) -> Segmenter:
    kind = (normalization, net.get("distilled", False))
    if kind not in ARCHITECTURES:
        raise ValueError(f"variant.yml: normalization={kind[0]} with distilled={kind[1]} is not a known architecture")
    encoder = ViTEncoder(
        ARCHITECTURES[kind],
        image_size=net["image_size"],
        patch_size=net["patch_size"],
        drop_path_rate=net["drop_path_rate"],
        dropout=net["dropout"],
        norm_eps=EPS,
        final_norm_eps=EPS,
        embed_dim=net["d_model"],
        depth=net["n_layers"],
        num_heads=net["n_heads"],
    )
    decoder = net["decoder"]
    if decoder["name"] == "linear":
        return Segmenter(encoder, LinearDecoder(encoder.width, net["n_cls"]))
    if decoder["name"] != "mask_transformer":
        raise ValueError(f"variant.yml: decoder {decoder['name']} is neither linear nor mask_transformer")
    mask_decoder = MaskDecoder(
        encoder.width,
        net["n_cls"],
        depth=decoder["n_layers"],
        dropout=decoder["dropout"],
        drop_path_rate=decoder["drop_path_rate"],
        mask_norm="layer",
        block_norm_eps=EPS,
        norm_eps=EPS,
    )
    return Segmenter(encoder, mask_decoder)


def _our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = {name: value for name, value in state.items() if not name.startswith("encoder.head")}  # ImageNet heads
    return {name.replace("encoder.", "encoder.vit.", 1): value for name, value in kept.items()}


class _TupleLoader(yaml.SafeLoader):
    """The safe loader, plus the one Python type in variant.yml: the tuple image_size."""


def _tuple(loader: yaml.SafeLoader, node: Any) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node))


_TupleLoader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)
