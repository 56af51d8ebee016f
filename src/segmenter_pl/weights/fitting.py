"""Encoder weights of any source, fitted to a timm ViT.

Shapes: D width, h w grid of patches, N = h·w, E prefix tokens (class, distillation, register).
"""

import logging
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resample_patch_embed
from timm.models import eva, vision_transformer
from torch import Tensor

from segmenter_pl.weights.jax import from_jax
from segmenter_pl.weights.names import MMSEG, PADDLE_DEIT, PADDLE_VIT, VIT
from segmenter_pl.weights.reading import Contents, read_file

log = logging.getLogger(__name__)

CLASSIFIER = ("head.", "head_dist.", "attn_pool.", "pre_logits.")
CONTAINERS = ("state_dict", "model", "teacher")  # keys under which training scripts put the state dict
PREFIXES = ("module.", "model.", "backbone.", "encoder.", "vit.")  # from outside to inside
SHOWN = 8  # names of each kind in the error about a file that does not fit


def load_weights(vit: Any, path: str | Path, *, position_mode: str) -> None:
    """Load a file into a timm ViT that has no classification head.

    The position table is resized from the file's own square grid, the patch embedding if its side differs, and the
    classification head is left out; every other name and shape must agree.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or its names or shapes do not fit (the first of each kind are listed).
    """
    try:
        state = encoder_state(read_file(path))
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"backbone.weights={error}") from error
    found = {name: value for name, value in state.items() if not name.startswith(CLASSIFIER)}
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
    require_finite(found, f"backbone.weights={path}")
    vit.load_state_dict(found)


def encoder_state(contents: Contents) -> dict[str, Tensor]:
    """The encoder's tensors by timm's names, from any file that holds one.

    Containers (``state_dict``, ``model``, ``teacher``) are opened and prefixes (``module.``, ``encoder.`` …) removed;
    where a prefix occurs, tensors without it are left out, so the checkpoint of a whole segmenter will do. Names that
    belong to nothing stay as they are.

    Raises: ValueError where arrays of a JAX file are missing.
    """
    if contents.kind == "jax":
        try:
            state, rest = from_jax(contents.data)
        except KeyError as error:
            raise ValueError(f"{contents.path} is no ViT of the JAX release: it lacks {error}") from error
        return state | {name: contents.data[name] for name in rest}
    state = open_containers(contents.data)
    foreign = naming_of(state)
    if foreign is None:
        for prefix in PREFIXES:
            inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            state = inside or state
        return state
    if foreign is MMSEG and not any(name.startswith("backbone.") for name in state):
        state = {f"backbone.{name}": value for name, value in state.items()}  # converted for it, an encoder alone
    known, rest = foreign.ours(state)
    inside = {name.removeprefix(VIT): value for name, value in known.items() if name.startswith(VIT)}
    return inside | {name: state[name] for name in rest if not name.startswith(("decode", "auxiliary_head"))}


def open_containers(data: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by name in what a training script saved."""
    for container in CONTAINERS:
        inner = data.get(container)
        data = inner if isinstance(inner, Mapping) else data
    return {str(name): value for name, value in data.items() if isinstance(value, Tensor)}


def naming_of(state: Mapping[str, Tensor]) -> Any:
    """The `Naming` whose names these are; None for timm's and ours."""
    if any(name.startswith("encoder.transformer.") for name in state):
        return PADDLE_VIT
    if "encoder.class_token" in state:
        return PADDLE_DEIT
    return MMSEG if any(name.endswith("layers.0.ln1.weight") for name in state) else None


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


def require_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise a ValueError for tensors without finite real numbers; `source` opens it. BatchNorm counts in integers."""
    numbers = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    if odd := [
        name for name, value in numbers.items() if not (value.is_floating_point() and value.float().isfinite().all())
    ]:
        raise ValueError(
            f"{source} holds values that are not finite in {len(odd)} of {len(state)} tensors, the first is {odd[0]}: "
            "it is spoilt, copy it again"
        )


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
