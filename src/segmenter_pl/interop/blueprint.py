"""A model as plain data: what every reader makes of a file, and what models and other formats are made of."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from segmenter_pl.factory import segmenter_from_config
from segmenter_pl.models import EncoderDecoder, LinearDecoder, MaskDecoder, ModelSpec, Segmenter
from segmenter_pl.weights.fitting import require_finite, require_match
from segmenter_pl.weights.names import VIT

# Sizes beyond these are no model of anybody's; a spoilt file may claim them, and building one would fill the memory.
LARGEST = {"width": 8192, "depth": 256, "patch": 128, "grid": 1024, "classes": 32767, "decoder_depth": 64}


@dataclass(frozen=True)
class Blueprint:
    """What a file describes.

    Attributes:
        source: whose format. backbone, decoder: as in `conf/`, for `factory.segmenter_from_config`.
        num_classes: K. state: tensors by our names. spec: how the model wants to be used.
        info: what a checkpoint of ours says of its training, else empty.
    """

    source: str
    backbone: dict[str, Any]
    decoder: dict[str, Any]
    num_classes: int
    state: dict[str, Tensor]
    spec: ModelSpec
    info: Mapping[str, Any]

    @classmethod
    def of(cls, model: EncoderDecoder) -> "Blueprint":
        """The description of a model. Raises: ValueError for one without `config`, or `spec`."""
        if model.config is None or model.spec is None:
            raise ValueError("the model does not know its settings (config, spec): make it with load_segmenter")
        state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        return cls(
            "segmenter-pl", model.config["backbone"], model.config["decoder"], model.num_classes, state, model.spec, {}
        )

    def build(self) -> EncoderDecoder:
        """The model in evaluation mode, on the CPU. Raises: ValueError for tensors that do not fit it (listed)."""
        self._check()
        try:
            with torch.device("meta"):  # without memory, which the settings of a spoilt file may ask too much of
                require_match(self._model().state_dict(), self.state, f"the {self.source} checkpoint")
            model = self._model()
        except (ArithmeticError, AssertionError, LookupError, TypeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"its settings make no model ({reason}): it is spoilt, or of a later version") from error
        require_finite(self.state, f"the {self.source} checkpoint")
        model.load_state_dict(self.state)
        model.spec = self.spec
        return model.eval()

    def _model(self) -> EncoderDecoder:
        return segmenter_from_config({"backbone": self.backbone, "decoder": self.decoder}, self.num_classes)

    def _check(self) -> None:
        """Raise ValueError for what building alone would not notice, or not in time."""
        depths = {"depth": self.backbone.get("depth", 1), "decoder_depth": self.decoder.get("depth", 0)}
        check_sizes(self.source, classes=self.num_classes, **depths)
        spec = self.spec
        sides = (spec.window, spec.stride, spec.window if spec.short_side is None else spec.short_side)
        if not all(type(side) is int and 0 < side < 1 << 20 for side in sides) or spec.stride > spec.window:
            said = [reprlib.repr(value) for value in (spec.window, spec.stride, spec.short_side)]
            raise ValueError(f"window, stride and short side cannot be {', '.join(said)}: it is spoilt")
        for name, values in (("classes", spec.classes), ("palette", spec.palette)):
            if values is not None and len(values) != self.num_classes:
                raise ValueError(f"it has {len(values)} {name} for {self.num_classes} outputs: it is spoilt")
        if (
            any(not 0 <= part <= 255 for color in spec.palette or () for part in color)
            or type(spec.ignore_index) is not int
        ):
            raise ValueError("its ignore_index is no whole number, or its palette no colours: it is spoilt")


@dataclass(frozen=True)
class Sizes:
    """What the shapes of tensors by our names tell: width D, blocks, patch side, grid side, prefix tokens, K, …"""

    width: int
    depth: int
    patch: int
    grid: int
    prefix: int
    classes: int
    decoder_depth: int
    patch_bias: bool

    def backbone(self, model_name: str, **settings: Any) -> dict[str, Any]:
        """Settings of the encoder with one head for 64 channels."""
        return {
            "_target_": "segmenter_pl.models.ViTEncoder",
            "model_name": model_name,
            "image_size": self.grid * self.patch,
            "patch_size": self.patch,
            "embed_dim": self.width,
            "depth": self.depth,
            "num_heads": max(1, self.width // 64),
            "patch_bias": self.patch_bias,
            "drop_path_rate": 0.1,  # of every published training
            **settings,
        }

    def decoder(self, **settings: Any) -> dict[str, Any]:
        """Settings of the decoder; a mask transformer where it has blocks."""
        if not self.decoder_depth:
            return {"_target_": "segmenter_pl.models.LinearDecoder"}
        return {
            "_target_": "segmenter_pl.models.MaskDecoder",
            "depth": self.decoder_depth,
            "mask_norm": "layer",
            "norm_eps": 1e-5,
            **settings,
        }


def sizes_of(state: Mapping[str, Tensor], source: str) -> Sizes:
    """Sizes of a segmenter with a square grid of patches. Raises: ValueError where what tells them is missing."""
    wanted = {f"{VIT}cls_token": 3, f"{VIT}pos_embed": 3, f"{VIT}patch_embed.proj.weight": 4}
    mask = "decoder.cls_emb" in state
    wanted |= {"decoder.cls_emb": 3} if mask else {"decoder.head.weight": 2}
    if lacking := [name for name, ndim in wanted.items() if name not in state or state[name].ndim != ndim]:
        raise ValueError(f"the {source} checkpoint lacks {', '.join(lacking)} (by our names): it is no Segmenter's")
    prefix = 2 if f"{VIT}dist_token" in state else 1
    patches = state[f"{VIT}pos_embed"].shape[1] - prefix
    grid = isqrt(max(patches, 0))
    if grid * grid != patches:
        raise ValueError(f"the {source} checkpoint has positions for {patches} patches, which is no square grid")
    sizes = Sizes(
        width=state[f"{VIT}cls_token"].shape[-1],
        depth=_count(state, f"{VIT}blocks."),
        patch=state[f"{VIT}patch_embed.proj.weight"].shape[-1],
        grid=grid,
        prefix=prefix,
        classes=state["decoder.cls_emb"].shape[1] if mask else len(state["decoder.head.weight"]),
        decoder_depth=_count(state, "decoder.blocks."),
        patch_bias=f"{VIT}patch_embed.proj.bias" in state,
    )
    check_sizes(source, **{name: getattr(sizes, name) for name in LARGEST})
    return sizes


def require_segmenter(model: EncoderDecoder, source: str) -> Segmenter:
    """The model, if it is the paper's: a ViT with the linear or the mask decoder. Raises ValueError for others."""
    if not isinstance(model, Segmenter) or not isinstance(model.decoder, LinearDecoder | MaskDecoder):
        raise ValueError(f"{source} has no {model.title}: only Segmenter with the linear decoder or the mask decoder")
    return model


def require_plain(model: Segmenter, source: str) -> None:
    """Raise ValueError for a model whose tensors are those of a plain one, but which computes something else."""
    heads = max(1, model.encoder.width // 64)
    if model.encoder.width < 64:
        raise ValueError(
            f"{source} takes one attention head per 64 channels: a width of {model.encoder.width} has none"
        )
    blocks: Any = model.decoder.blocks if isinstance(model.decoder, MaskDecoder) else []
    if any(block.attn.num_heads != heads for block in blocks):
        raise ValueError(
            f"{source} has one attention head per 64 channels in the decoder: {heads} here, the model others"
        )
    plain = all(isinstance(block.mlp.act, nn.GELU) for block in model.encoder.vit.blocks)
    if not plain or getattr(model.encoder.vit, "rope", None) is not None or model.encoder.taps:
        raise ValueError(f"{source} has no such encoder: only a plain ViT with GELU and learned positions")
    if model.encoder.merging is not None:
        kept = model.encoder.merging.keep
        raise ValueError(f"{source} cannot merge tokens: only a model with backbone.token_merging.keep=1, not {kept}")


def check_sizes(source: str, **sizes: int) -> None:
    """Raise ValueError for one of LARGEST that no model has; only a decoder's depth may be 0."""
    for name, value in sizes.items():
        if type(value) is not int or not (0 if name == "decoder_depth" else 1) <= value <= LARGEST[name]:
            claim = reprlib.repr(value)  # whatever it is, and however long
            raise ValueError(f"the {source} checkpoint claims {name} {claim}: it is spoilt, or no Segmenter's")


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    numbers = {name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)}
    return len(numbers)
