"""Encoder weights from files and from the Hugging Face hub.

Shapes: D width, h w grid of patches, N = h·w, E prefix tokens (class, distillation, register).
"""

import logging
from collections.abc import Callable, Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from safetensors.torch import load_file
from timm.layers import resample_patch_embed
from timm.models import eva, vision_transformer
from torch import Tensor

log = logging.getLogger(__name__)

CLASSIFIER = ("head.", "head_dist.", "attn_pool.", "pre_logits.")
CONTAINERS = ("state_dict", "model", "teacher")  # keys under which training scripts put the state dict
PREFIXES = ("module.", "model.", "backbone.", "encoder.", "vit.")  # from outside to inside
PROBE_SECONDS = 4.0
SHOWN = 8  # names of each kind in the error about a file that does not fit


def load_weights(vit: Any, path: str | Path, *, position_mode: str) -> None:
    """Load a file into a timm ViT that has no classification head.

    The position table is resized from the file's own square grid, the patch embedding if its side differs, and the
    classification head is left out; every other name and shape must agree.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or its names or shapes do not fit (the first of each kind are listed).
    """
    found = {name: value for name, value in read_weights(path).items() if not name.startswith(CLASSIFIER)}
    expected = vit.state_dict()
    resized = {}
    if "pos_embed" in found and "pos_embed" in expected:
        resized["pos_embed"] = _fit_position_table(found.pop("pos_embed"), vit, position_mode)
    if "patch_embed.proj.weight" in found:
        resized["patch_embed.proj.weight"] = _fit_patch_embedding(found.pop("patch_embed.proj.weight"), vit)
    if found.keys() | resized.keys() != expected.keys():  # perhaps the names of the model's authors
        rename = eva if isinstance(vit, eva.Eva) else vision_transformer
        found = rename.checkpoint_filter_fn(found, vit)
    found |= resized
    require_match(expected, found, f"backbone.weights={path}")
    vit.load_state_dict(found)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read .safetensors, .pth, .pt, .bin or AugReg .npz into a state dict with timm's names, on the CPU.

    Containers (``state_dict``, ``model``, ``teacher``) are opened and prefixes (``module.``, ``encoder.`` …) removed;
    where a prefix occurs, tensors without it are left out, so the checkpoint of a whole segmenter will do.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"backbone.weights={path}: there is no such file; correct the path")
    if path.suffix not in READERS:
        raise ValueError(f"backbone.weights={path}: the name must end in one of {', '.join(READERS)}")
    try:
        state = READERS[path.suffix](path)
    except Exception as error:  # each format fails with exceptions of its own
        reason = repr(error).partition(". ")[0]  # torch goes on with advice to load without its protection
        raise ValueError(
            f"backbone.weights={path} cannot be read as {path.suffix} ({reason}): copy or download it again"
        ) from error
    for prefix in PREFIXES:
        inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        state = inside or state
    return state


def _read_torch(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    for container in CONTAINERS:
        state = state.get(container, state)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _read_npz(path: Path) -> dict[str, Tensor]:
    """The layout of the original JAX release: How to train your ViT (Steiner et al., 2021)."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        jax = {name: torch.from_numpy(arrays[name]).float() for name in arrays.files}
    state = {
        "cls_token": jax["cls"],
        "pos_embed": jax["Transformer/posembed_input/pos_embedding"],
        "patch_embed.proj.weight": jax["embedding/kernel"].permute(3, 2, 0, 1),  # (P, P, 3, D) -> (D, 3, P, P)
        "patch_embed.proj.bias": jax["embedding/bias"],
        "norm.weight": jax["Transformer/encoder_norm/scale"],
        "norm.bias": jax["Transformer/encoder_norm/bias"],
    }
    depth = len({name.split("/")[1] for name in jax if name.startswith("Transformer/encoderblock_")})
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        qkv = [jax[f"{attention}/{part}/kernel"].flatten(1).T for part in ("query", "key", "value")]  # (D, D) each
        bias = [jax[f"{attention}/{part}/bias"].flatten() for part in ("query", "key", "value")]
        state[f"blocks.{i}.attn.qkv.weight"] = torch.cat(qkv)  # (3·D, D)
        state[f"blocks.{i}.attn.qkv.bias"] = torch.cat(bias)
        state[f"blocks.{i}.attn.proj.weight"] = jax[f"{attention}/out/kernel"].flatten(0, 1).T  # (D, D)
        state[f"blocks.{i}.attn.proj.bias"] = jax[f"{attention}/out/bias"]
        for ours, theirs in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            state[f"blocks.{i}.{ours}.weight"] = jax[f"{block}/{theirs}/scale"]
            state[f"blocks.{i}.{ours}.bias"] = jax[f"{block}/{theirs}/bias"]
        for ours, theirs in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            state[f"blocks.{i}.mlp.{ours}.weight"] = jax[f"{block}/MlpBlock_3/{theirs}/kernel"].T
            state[f"blocks.{i}.mlp.{ours}.bias"] = jax[f"{block}/MlpBlock_3/{theirs}/bias"]
    return state


READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": load_file,
    ".npz": _read_npz,
    **dict.fromkeys((".pth", ".pt", ".bin", ".ckpt"), _read_torch),
}


def resize_position_table(table: Tensor, old: tuple[int, int], new: tuple[int, int], mode: str) -> Tensor:
    """Resize a table (1, E+N, D) from one (h, w) grid to another; the E prefix rows stay as they are.

    ``mode`` is "bilinear" or "bicubic"; half-pixel centres, no antialiasing.
    """
    prefix = table.shape[1] - old[0] * old[1]
    patches = table[:, prefix:].unflatten(1, old).permute(0, 3, 1, 2)  # (1, D, h, w)
    patches = F.interpolate(patches, size=new, mode=mode, align_corners=False)
    return torch.cat([table[:, :prefix], patches.flatten(2).transpose(1, 2)], dim=1)  # (1, E+N, D)


def _fit_position_table(table: Tensor, vit: Any, mode: str) -> Tensor:
    grid = vit.patch_embed.grid_size
    patches = table.shape[1] - (vit.pos_embed.shape[1] - grid[0] * grid[1])
    side = isqrt(max(patches, 0))
    if side * side != patches or (side, side) == grid:
        return table
    log.info("position table resized from %dx%d to %dx%d patches", side, side, *grid)
    return resize_position_table(table.float(), (side, side), grid, mode)


def _fit_patch_embedding(weight: Tensor, vit: Any) -> Tensor:
    size = vit.patch_embed.patch_size
    if weight.ndim != 4 or tuple(weight.shape[-2:]) == size:
        return weight
    log.info("patch embedding resampled from %d to %d pixels", weight.shape[-1], size[1])
    return resample_patch_embed(weight.float(), list(size))


def require_match(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    """Raise a ValueError with missing names, unexpected names and wrong shapes, some of each; ``source`` opens it."""
    common = [name for name in expected if name in found and expected[name].shape != found[name].shape]
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "wrong shape": [f"{n} {tuple(found[n].shape)}, the model has {tuple(expected[n].shape)}" for n in common],
    }
    rest = {kind: f"; and {len(names) - SHOWN} more" for kind, names in problems.items() if len(names) > SHOWN}
    lines = [f"  {kind}: {'; '.join(names[:SHOWN])}{rest.get(kind, '')}" for kind, names in problems.items() if names]
    if lines:
        first = f"{source} does not fit the model: choose the backbone and the sizes that it was made with"
        raise ValueError("\n".join([first, *lines]))


def hub_weights(model_name: str, repository: str | None, filename: str | None) -> Path:
    """Path of a model's weights in the Hugging Face cache, downloaded if they are not there yet.

    One short probe comes before the download, because the hub's client retries for most of a minute without a network.

    Raises:
        ValueError: timm knows no weights on the hub for this model.
        FileNotFoundError: they are not in the cache and the hub is out of reach.
    """
    if not repository:
        raise ValueError(f"backbone.pretrained=true: timm has no weights for {model_name}; use backbone.weights=PATH")
    filename = filename or "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return Path(cached)
    try:
        url = huggingface_hub.hf_hub_url(repository, filename)
        huggingface_hub.get_hf_file_metadata(url, timeout=PROBE_SECONDS)
        return Path(huggingface_hub.hf_hub_download(repository, filename))
    except Exception as error:  # connection, proxy, offline mode, missing file: the way out is the same
        raise FileNotFoundError(
            f"backbone.pretrained=true: {filename} of {repository} is not in the cache {constants.HF_HUB_CACHE} and "
            f"cannot be fetched ({type(error).__name__}). Give a file with backbone.weights=PATH, start from random "
            "weights with backbone.pretrained=false, or fill the cache on a machine with a network."
        ) from error
