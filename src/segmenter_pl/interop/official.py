"""Checkpoints of the authors' implementation (github.com/rstrudel/segmenter): checkpoint.pth beside variant.yml."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from segmenter_pl.interop.blueprint import Blueprint, check_sizes, require_plain, require_segmenter
from segmenter_pl.models import MaskDecoder, ModelSpec, Segmenter
from segmenter_pl.weights.names import OFFICIAL
from segmenter_pl.weights.reading import LONGEST, read_file

SOURCE = "official"
EPS = 1e-5  # theirs is torch's default in every LayerNorm, also where the ImageNet weights were trained with 1e-6
IMAGENET = 1000  # outputs of the classification heads that their encoders carry along
# No name of timm's: for those, their code fetches ImageNet weights before it loads a checkpoint.
BACKBONE = "converted"
RATES = {"dropout": 0.1, "drop_path_rate": 0.0}  # of a mask decoder that does not say
# The timm model with those prefix tokens, by whether it is distilled; sizes come from the file.
ARCHITECTURES = {
    False: "vit_tiny_patch16_384.augreg_in21k_ft_in1k",
    True: "deit_tiny_distilled_patch16_224.fb_in1k",
}
STATISTICS = {
    "vit": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "deit": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def read_official(checkpoint: Path) -> Blueprint:
    """A blueprint from checkpoint.pth and the variant.yml beside it, which tells what tensors cannot.

    ``spec`` has the window, stride and short side of its evaluation, but no class names, which the files do not tell.
    The position table stays at its trained grid.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: a file cannot be read, or describes an architecture of another kind.
    """
    variant_file = checkpoint.with_name("variant.yml")
    for file in (checkpoint, variant_file):
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; an official checkpoint is checkpoint.pth with variant.yml")
    state = _our_names(read_file(checkpoint).data.get("model"))
    try:
        variant = yaml.load(variant_file.read_text(encoding="utf-8"), Loader=_TupleLoader)  # a SafeLoader
        net, inference = variant["net_kwargs"], variant["inference_kwargs"]
        backbone = _backbone(net, variant["dataset_kwargs"]["normalization"])
        spec = ModelSpec(
            classes=None,
            palette=None,
            ignore_index=255,
            window=inference["window_size"],
            stride=inference["window_stride"],
            short_side=inference["im_size"],
        )
        return Blueprint(SOURCE, backbone, _decoder(net["decoder"]), net["n_cls"], state, spec, {})
    except (LookupError, TypeError, RecursionError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
        raise ValueError(f"{variant_file} does not describe a Segmenter ({reason}): copy it again") from error


def _our_names(state: Any) -> dict[str, Tensor]:
    if not isinstance(state, Mapping):
        raise ValueError("it has no dictionary of tensors named model, as official checkpoints do")
    kept = {name: value for name, value in state.items() if not name.startswith("encoder.head")}  # ImageNet heads
    known, rest = OFFICIAL.ours(kept)
    return known | {name: kept[name] for name in rest}  # which are listed where they do not fit


def _backbone(net: Mapping[str, Any], normalization: str) -> dict[str, Any]:
    if normalization not in STATISTICS:
        raise ValueError(f"variant.yml: normalization={reprlib.repr(normalization)} is none of {', '.join(STATISTICS)}")
    check_sizes(SOURCE, width=net["d_model"], depth=net["n_layers"], patch=net["patch_size"], classes=net["n_cls"])
    return {
        "_target_": "segmenter_pl.models.ViTEncoder",
        "model_name": ARCHITECTURES[bool(net.get("distilled", False))],
        **STATISTICS[normalization],
        "image_size": list(net["image_size"]),
        "patch_size": net["patch_size"],
        "drop_path_rate": net["drop_path_rate"],
        "dropout": net["dropout"],
        "norm_eps": EPS,
        "final_norm_eps": EPS,
        "embed_dim": net["d_model"],
        "depth": net["n_layers"],
        "num_heads": net["n_heads"],
    }


def _decoder(decoder: Mapping[str, Any]) -> dict[str, Any]:
    if decoder["name"] not in ("linear", "mask_transformer"):
        raise ValueError(f"variant.yml: decoder {reprlib.repr(decoder['name'])} is neither linear nor mask_transformer")
    if decoder["name"] == "linear":
        return {"_target_": "segmenter_pl.models.LinearDecoder"}
    check_sizes(SOURCE, decoder_depth=decoder["n_layers"])
    return {
        "_target_": "segmenter_pl.models.MaskDecoder",
        "depth": decoder["n_layers"],
        "dropout": decoder["dropout"],
        "drop_path_rate": decoder["drop_path_rate"],
        "mask_norm": "layer",
        "block_norm_eps": EPS,
        "norm_eps": EPS,
    }


def write_official(blueprint: Blueprint) -> tuple[dict[str, Any], str]:
    """The content of checkpoint.pth, with ImageNet heads of zeros so that its strict loading works, and variant.yml.

    Raises: ValueError for a model that the official code cannot build.
    """
    model = require_segmenter(blueprint.build(), OFFICIAL.source)
    if "decoder.mask_norm.log_scale" in blueprint.state:
        raise ValueError("the official code has no decoder.mask_norm=scale: only a LayerNorm over the classes")
    state = OFFICIAL.theirs(blueprint.state)
    if "encoder.patch_embed.proj.bias" not in state:
        raise ValueError("the official code cannot leave the bias of the patch embedding out: convert to mmseg instead")
    require_plain(model, OFFICIAL.source)
    distilled = "encoder.dist_token" in state
    for head in ("head", "head_dist") if distilled else ("head",):
        state[f"encoder.{head}.weight"] = torch.zeros(IMAGENET, model.encoder.width)
        state[f"encoder.{head}.bias"] = torch.zeros(IMAGENET)
    content = {"model": state, "n_cls": model.num_classes, "epoch": 0}
    return content, yaml.dump(_variant(blueprint, model, distilled), Dumper=_TupleDumper)


def _variant(blueprint: Blueprint, model: Segmenter, distilled: bool) -> dict[str, Any]:
    encoder, spec, normalization = model.encoder, blueprint.spec, _normalization(model)
    size = tuple(side * encoder.patch_size for side in encoder.vit.patch_embed.grid_size)
    decoder: dict[str, Any] = {"name": "linear", "n_cls": model.num_classes}
    if isinstance(model.decoder, MaskDecoder):
        rates = {key: float(blueprint.decoder.get(key, RATES[key])) for key in RATES}
        decoder |= {"name": "mask_transformer", "n_layers": len(model.decoder.blocks), **rates}
    net = {
        "backbone": BACKBONE,
        "image_size": size,
        "patch_size": encoder.patch_size,
        "d_model": encoder.width,
        "n_heads": encoder.vit.blocks[0].attn.num_heads,
        "n_layers": encoder.depth,
        "normalization": normalization,
        "distilled": distilled,
        "dropout": float(blueprint.backbone.get("dropout") or 0.0),
        "drop_path_rate": float(blueprint.backbone.get("drop_path_rate") or 0.0),
        "n_cls": model.num_classes,
        "decoder": decoder,
    }
    short = spec.short_side or min(size)
    return {
        "net_kwargs": net,
        "dataset_kwargs": {"normalization": normalization, "crop_size": min(size), "image_size": short},
        "inference_kwargs": {"im_size": short, "window_size": spec.window, "window_stride": spec.stride},
    }


def _normalization(model: Segmenter) -> str:
    found = {key: (getattr(model.encoder, f"pixel_{key}") / 255).flatten().tolist() for key in ("mean", "std")}
    for name, known in STATISTICS.items():
        if all(abs(a - b) < 1e-5 for key in known for a, b in zip(known[key], found[key], strict=True)):
            return name
    raise ValueError(f"the official code knows the pixel statistics {STATISTICS}, the model has {found}")


class _TupleLoader(yaml.SafeLoader):
    """The safe loader, plus the one Python type in variant.yml: the tuple image_size."""


class _TupleDumper(yaml.SafeDumper):
    """The safe dumper, plus that type."""


def _tuple(loader: yaml.SafeLoader, node: Any) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node))


def _sequence(dumper: yaml.SafeDumper, value: tuple[Any, ...]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:python/tuple", value)


_TupleLoader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)
_TupleDumper.add_representer(tuple, _sequence)
