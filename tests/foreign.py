"""Tiny checkpoints as other implementations write them, made from their key tables, without any code of ours.

Shapes: D width, P patch, g side of the trained grid, K classes, E prefix tokens.
"""

import pickle
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """Sizes of a tiny segmenter; `decoder_depth` 0 is the linear decoder."""

    width: int = 64
    depth: int = 2
    patch: int = 8
    grid: int = 3
    classes: int = 5
    decoder_depth: int = 1
    distilled: bool = False
    patch_bias: bool = True


def official_shapes(s: Shape, heads: bool = True) -> dict[str, tuple[int, ...]]:
    """The official code's whole state dict: names and shapes."""
    d, extra = s.width, 2 if s.distilled else 1
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.cls_token": (1, 1, d),
        "encoder.pos_embed": (1, extra + s.grid**2, d),
        "encoder.patch_embed.proj.weight": (d, 3, s.patch, s.patch),
        **layer("encoder.norm", d),
    }
    shapes |= {"encoder.dist_token": (1, 1, d)} if s.distilled else {}
    shapes |= {"encoder.patch_embed.proj.bias": (d,)} if s.patch_bias else {}
    for name in ("head", "head_dist") if s.distilled else ("head",):
        shapes |= layer(f"encoder.{name}", 1000, d) if heads else {}
    for i in range(s.depth):
        shapes |= block(f"encoder.blocks.{i}", d)
    if not s.decoder_depth:
        return shapes | layer("decoder.head", s.classes, d)
    for i in range(s.decoder_depth):
        shapes |= block(f"decoder.blocks.{i}", d)
    return shapes | {
        "decoder.cls_emb": (1, s.classes, d),
        "decoder.proj_patch": (d, d),
        "decoder.proj_classes": (d, d),
        **layer("decoder.proj_dec", d, d),
        **layer("decoder.decoder_norm", d),
        **layer("decoder.mask_norm", s.classes),
    }


def layer(name: str, outputs: int, inputs: int | None = None) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs,) if inputs is None else (outputs, inputs), f"{name}.bias": (outputs,)}


def block(name: str, d: int) -> dict[str, tuple[int, ...]]:
    linear = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.fc1": (4 * d, d), "mlp.fc2": (d, 4 * d)}
    parts = [layer(f"{name}.{part}", *sizes) for part, sizes in linear.items()]
    return {
        key: size
        for part in (*parts, layer(f"{name}.norm1", d), layer(f"{name}.norm2", d))
        for key, size in part.items()
    }


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> State:
    """Values that keep a network's numbers small: every tensor is another, none is constant."""
    return {
        name: torch.randn(size, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)) * 0.05
        + ("norm" in name and name.endswith("weight"))
        for name, size in shapes.items()
    }


def official_state(s: Shape, seed: int = 0, heads: bool = True) -> State:
    return random_state(official_shapes(s, heads), seed)


def mmseg_state(s: Shape, seed: int = 0) -> State:
    """The same model in MMSegmentation's names (reference: its key table)."""
    parts = {
        "encoder.patch_embed.proj.": "backbone.patch_embed.projection.",
        "encoder.norm.": "backbone.ln1.",
        "encoder.blocks.": "backbone.layers.",
        "encoder.": "backbone.",
        "decoder.blocks.": "decode_head.layers.",
        "decoder.proj_dec.": "decode_head.dec_proj.",
        "decoder.proj_patch": "decode_head.patch_proj.weight",
        "decoder.proj_classes": "decode_head.classes_proj.weight",
        "decoder.head.": "decode_head.conv_seg.",
        "decoder.": "decode_head.",
        ".norm1.": ".ln1.",
        ".norm2.": ".ln2.",
        ".attn.proj.": ".attn.attn.out_proj.",
        ".attn.qkv.": ".attn.attn.in_proj_",
        ".mlp.fc1.": ".ffn.layers.0.0.",
        ".mlp.fc2.": ".ffn.layers.1.",
    }
    found = {}
    for name, value in official_state(s, seed, heads=False).items():
        new = name
        for old, other in parts.items():
            new = new.replace(old, other)
        if name in ("decoder.proj_patch", "decoder.proj_classes"):
            value = value.T.contiguous()
        found[new] = value[:, :, None, None] if name == "decoder.head.weight" else value
    return found


def paddle_arrays(s: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    """The same model in PaddleViT's names and layout (reference: its mapping)."""
    vit = "encoder.transformer."
    parts = {
        "encoder.norm.": "norm.",
        "encoder.cls_token": "encoder.class_token" if s.distilled else f"{vit}embeddings.cls_token",
        "encoder.dist_token": "encoder.distill_token",
        "decoder.cls_emb": "decoder.mask_tokens",
        "decoder.proj_dec.": "decoder.proj_decoder.",
        "decoder.blocks.": "decoder.layers.",
    }
    if s.distilled:
        parts["encoder.blocks."] = "encoder.layers."
    else:
        parts |= {
            "encoder.blocks.": f"{vit}encoder.layers.",
            "encoder.pos_embed": f"{vit}embeddings.position_embeddings",
            "encoder.patch_embed.proj.": f"{vit}embeddings.patch_embeddings.",
        }
    found = {}
    for name, value in official_state(s, seed, heads=False).items():
        new = name
        for old, other in parts.items():
            new = new.replace(old, other)
        if "blocks." in name and not (s.distilled and name.startswith("encoder.")):
            for old, other in {".norm1.": ".attn_norm.", ".norm2.": ".mlp_norm.", ".attn.proj.": ".attn.out."}.items():
                new = new.replace(old, other)
        if name in ("decoder.proj_patch", "decoder.proj_classes"):
            new = {
                "decoder.proj_patch": "decoder.proj_patch.weight",
                "decoder.proj_classes": "decoder.proj_class.weight",
            }[name]
        elif value.ndim == 2:
            value = value.T
        found[new] = np.ascontiguousarray(value.numpy())
    return found


def write_official(folder: Path, s: Shape, seed: int = 0, variant: dict | None = None, **inference: int) -> Path:
    """checkpoint.pth with what its training leaves in it, and variant.yml; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    side = s.grid * s.patch
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    content = {"model": official_state(s, seed), "optimizer": optimizer, "n_cls": s.classes, "epoch": 63}
    torch.save({**content, "lr_scheduler": {"base_lrs": [1e-3], "last_epoch": 9}}, folder / "checkpoint.pth")
    decoder = {"name": "mask_transformer", "n_layers": s.decoder_depth, "dropout": 0.1, "drop_path_rate": 0.0}
    net = {
        "backbone": "vit_tiny_patch16_384",
        "image_size": [side, side],
        "patch_size": s.patch,
        "d_model": s.width,
        "n_heads": max(1, s.width // 64),
        "n_layers": s.depth,
        "normalization": "deit" if s.distilled else "vit",
        "distilled": s.distilled,
        "dropout": 0.0,
        "drop_path_rate": 0.1,
        "n_cls": s.classes,
        "decoder": {**(decoder if s.decoder_depth else {"name": "linear"}), "n_cls": s.classes},
    }
    found = {
        "net_kwargs": {**net, **(variant or {})},
        "dataset_kwargs": {"normalization": net["normalization"], "crop_size": side, "image_size": side},
        "inference_kwargs": {"im_size": side, "window_size": side, "window_stride": side} | inference,
    }
    text = yaml.safe_dump(found).replace("image_size:\n  -", "image_size: !!python/tuple\n  -")
    (folder / "variant.yml").write_text(text)
    return folder


def write_mmseg(path: Path, s: Shape, seed: int = 0, **more: object) -> Path:
    torch.save({"meta": {}, "state_dict": mmseg_state(s, seed), **more}, path)
    return path


def write_paddle(path: Path, s: Shape, seed: int = 0, protocol: int = 4, largest: int | None = None) -> Path:
    """As `paddle.save`: a pickle of arrays and names; arrays of more than `largest` numbers lie there in pieces."""
    arrays = paddle_arrays(s, seed)
    content: dict[str, object] = {
        "StructuredToParameterName@@": {name: f"linear_{k}.w_0" for k, name in enumerate(arrays)}
    }
    pieces = {}
    for name, value in arrays.items():
        if largest is None or value.size <= largest:
            content[name] = value
            continue
        flat = value.ravel()
        slices = [f"{name}@@.{k}" for k in range(-(-flat.size // largest))]
        content |= {part: flat[k * largest : (k + 1) * largest] for k, part in enumerate(slices)}
        pieces[name] = {"OriginShape": value.shape, "slices": slices}
    if pieces:
        content["UnpackBigParamInfor@@"] = pieces
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def jax_arrays(s: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    """The encoder in the layout of the original JAX release, with one head per 64 channels and its classifier."""
    state = {k.removeprefix("encoder."): v.numpy() for k, v in official_state(s, seed).items()}
    heads = max(1, s.width // 64)
    found = {
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for i in range(s.depth):
        theirs, ours = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        weights, biases = (np.split(state[f"{ours}.attn.qkv.{leaf}"], 3) for leaf in ("weight", "bias"))
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            found[f"{attention}/{part}/kernel"] = weight.T.reshape(s.width, heads, -1)
            found[f"{attention}/{part}/bias"] = bias.reshape(heads, -1)
        found[f"{attention}/out/kernel"] = state[f"{ours}.attn.proj.weight"].T.reshape(heads, -1, s.width)
        found[f"{attention}/out/bias"] = state[f"{ours}.attn.proj.bias"]
        for name, norm in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            found |= {f"{theirs}/{norm}/scale": state[f"{ours}.{name}.weight"]}
            found |= {f"{theirs}/{norm}/bias": state[f"{ours}.{name}.bias"]}
        for name, dense in (("mlp.fc1", "Dense_0"), ("mlp.fc2", "Dense_1")):
            found |= {f"{theirs}/MlpBlock_3/{dense}/kernel": state[f"{ours}.{name}.weight"].T}
            found |= {f"{theirs}/MlpBlock_3/{dense}/bias": state[f"{ours}.{name}.bias"]}
    return {name: np.ascontiguousarray(value) for name, value in found.items()}
