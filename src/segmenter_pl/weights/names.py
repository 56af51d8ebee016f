"""How other implementations name the parts of a segmenter, and how they lay out its tensors.

A table maps our name of a part to theirs; {} stands for the number of a block. Our names are those of `Segmenter`:
"encoder.vit." with timm's names behind it, and "decoder.".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Change = Callable[[str, Tensor], Tensor]  # our name of a tensor and its values to the values in the other layout
VIT = "encoder.vit."
BLOCK = re.compile(r"\.(\d+)\.")  # the first number in a name is a block's
LEAVES = ("weight", "bias")
# Raw matrices that we and the official code multiply from the right, where others have a linear layer.
PROJECTIONS = ("decoder.proj_patch", "decoder.proj_classes")


def _same(name: str, value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Naming:
    """The names of one implementation.

    Attributes:
        source: its name. tensors: whole names by ours. modules: names of what holds a weight or a bias, by ours.
        read, write: from its layout to ours, and back.
    """

    source: str
    tensors: Mapping[str, str]
    modules: Mapping[str, str]
    read: Change = _same
    write: Change = _same

    def ours(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Tensors by our names and in our layout, and the names that are not in the table."""
        back = {theirs: ours for ours, theirs in self.tensors.items()}
        modules = {theirs: ours for ours, theirs in self.modules.items()}
        found = {theirs: _renamed(theirs, back, modules) for theirs in state}
        known = {ours: self.read(ours, state[theirs]) for theirs, ours in found.items() if ours}
        return known, [theirs for theirs, ours in found.items() if not ours]

    def theirs(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by its names and in its layout. Raises: ValueError for names that it does not have."""
        found = {ours: _renamed(ours, self.tensors, self.modules) for ours in state}
        if unknown := [ours for ours, theirs in found.items() if not theirs]:
            raise ValueError(f"{self.source} has no place for {', '.join(unknown[:8])}: it is another kind of model")
        return {theirs: self.write(ours, state[ours]).contiguous() for ours, theirs in found.items() if theirs}


def _renamed(name: str, tensors: Mapping[str, str], modules: Mapping[str, str]) -> str | None:
    number = BLOCK.search(name)
    pattern = BLOCK.sub(".{}.", name, count=1)
    stem, _, leaf = pattern.rpartition(".")
    renamed = tensors.get(name) or tensors.get(pattern)
    if renamed is None and leaf in LEAVES:
        renamed = modules.get(name.rpartition(".")[0]) or modules.get(stem)
        renamed = renamed and f"{renamed}.{leaf}"
    return renamed and renamed.format(number.group(1) if number else "")


def _blocks(ours: str, theirs: str, parts: Mapping[str, str]) -> dict[str, str]:
    return {f"{ours}.{{}}.{part}": f"{theirs}.{{}}.{name}" for part, name in parts.items()}


_OFFICIAL_BLOCK = {part: part for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")}
OFFICIAL = Naming(
    "the official code",
    tensors={
        **{f"{VIT}{name}": f"encoder.{name}" for name in ("cls_token", "dist_token", "pos_embed")},
        **{name: name for name in ("decoder.cls_emb", *PROJECTIONS)},
    },
    modules={
        f"{VIT}patch_embed.proj": "encoder.patch_embed.proj",
        f"{VIT}norm": "encoder.norm",
        **{f"decoder.{name}": f"decoder.{name}" for name in ("proj_dec", "decoder_norm", "mask_norm", "head")},
        **_blocks(f"{VIT}blocks", "encoder.blocks", _OFFICIAL_BLOCK),
        **_blocks("decoder.blocks", "decoder.blocks", _OFFICIAL_BLOCK),
    },
)

_MMSEG_BLOCK = {
    "norm1": "ln1",
    "norm2": "ln2",
    "attn.proj": "attn.attn.out_proj",
    "mlp.fc1": "ffn.layers.0.0",
    "mlp.fc2": "ffn.layers.1",
}
_MMSEG_QKV = {"attn.qkv.weight": "attn.attn.in_proj_weight", "attn.qkv.bias": "attn.attn.in_proj_bias"}


def _mmseg_read(name: str, value: Tensor) -> Tensor:
    if name in PROJECTIONS:
        return value.T
    return value.flatten(1) if name == "decoder.head.weight" else value  # (K, D, 1, 1) -> (K, D)


def _mmseg_write(name: str, value: Tensor) -> Tensor:
    if name in PROJECTIONS:
        return value.T
    return value[..., None, None] if name == "decoder.head.weight" else value


MMSEG = Naming(
    "MMSegmentation",
    tensors={
        f"{VIT}cls_token": "backbone.cls_token",
        f"{VIT}pos_embed": "backbone.pos_embed",
        "decoder.cls_emb": "decode_head.cls_emb",
        "decoder.proj_patch": "decode_head.patch_proj.weight",
        "decoder.proj_classes": "decode_head.classes_proj.weight",
        **_blocks(f"{VIT}blocks", "backbone.layers", _MMSEG_QKV),
        **_blocks("decoder.blocks", "decode_head.layers", _MMSEG_QKV),
    },
    modules={
        f"{VIT}patch_embed.proj": "backbone.patch_embed.projection",
        f"{VIT}norm": "backbone.ln1",
        "decoder.proj_dec": "decode_head.dec_proj",
        "decoder.decoder_norm": "decode_head.decoder_norm",
        "decoder.mask_norm": "decode_head.mask_norm",
        "decoder.head": "decode_head.conv_seg",
        **_blocks(f"{VIT}blocks", "backbone.layers", _MMSEG_BLOCK),
        **_blocks("decoder.blocks", "decode_head.layers", _MMSEG_BLOCK),
    },
    read=_mmseg_read,
    write=_mmseg_write,
)

_PADDLE_BLOCK = {
    "norm1": "attn_norm",
    "attn.qkv": "attn.qkv",
    "attn.proj": "attn.out",
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_PADDLE_DEIT_BLOCK = _PADDLE_BLOCK | {"norm1": "norm1", "attn.proj": "attn.proj", "norm2": "norm2"}
_PADDLE_TENSORS = {
    "decoder.cls_emb": "decoder.mask_tokens",
    "decoder.proj_patch": "decoder.proj_patch.weight",
    "decoder.proj_classes": "decoder.proj_class.weight",
}
_PADDLE_MODULES = {
    f"{VIT}norm": "norm",
    "decoder.proj_dec": "decoder.proj_decoder",
    "decoder.decoder_norm": "decoder.decoder_norm",
    "decoder.mask_norm": "decoder.mask_norm",
    "decoder.head": "decoder.head",
    **_blocks("decoder.blocks", "decoder.layers", _PADDLE_BLOCK),
}


def _paddle_read(name: str, value: Tensor) -> Tensor:
    """Its linear layers hold (in, out); the two projections are multiplied from the right here as there."""
    return value.T if value.ndim == 2 and name not in PROJECTIONS else value


PADDLE_VIT = Naming(
    "PaddleViT",
    tensors={
        f"{VIT}cls_token": "encoder.transformer.embeddings.cls_token",
        f"{VIT}pos_embed": "encoder.transformer.embeddings.position_embeddings",
        **_PADDLE_TENSORS,
    },
    modules={
        f"{VIT}patch_embed.proj": "encoder.transformer.embeddings.patch_embeddings",
        **_PADDLE_MODULES,
        **_blocks(f"{VIT}blocks", "encoder.transformer.encoder.layers", _PADDLE_BLOCK),
    },
    read=_paddle_read,
    write=_paddle_read,
)
PADDLE_DEIT = Naming(
    "PaddleViT",
    tensors={
        f"{VIT}cls_token": "encoder.class_token",
        f"{VIT}dist_token": "encoder.distill_token",
        f"{VIT}pos_embed": "encoder.pos_embed",
        **_PADDLE_TENSORS,
    },
    modules={
        f"{VIT}patch_embed.proj": "encoder.patch_embed.proj",
        **_PADDLE_MODULES,
        **_blocks(f"{VIT}blocks", "encoder.layers", _PADDLE_DEIT_BLOCK),
    },
    read=_paddle_read,
    write=_paddle_read,
)
