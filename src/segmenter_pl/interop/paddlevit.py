"""Checkpoints of PaddleViT's Segmenter (.pdparams): ViT and distilled DeiT encoders, mask and linear decoders."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from segmenter_pl.interop.blueprint import Blueprint, sizes_of
from segmenter_pl.models import ModelSpec
from segmenter_pl.weights.fitting import naming_of
from segmenter_pl.weights.names import PADDLE_VIT

VIT_NAME = "vit_tiny_patch16_384.augreg_in21k_ft_in1k"  # sizes come from the file
DEIT_NAME = "deit_tiny_distilled_patch16_224.fb_in1k"
BLOCK_EPS, NORM_EPS = 1e-6, 1e-5
UNTOLD = (0.5, 0.5, 0.5)  # the files hold no pixel statistics; those of its ViT configurations


def read_paddlevit(
    state: Mapping[str, Tensor], mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Blueprint:
    """A blueprint from the arrays of a file; `mean` and `std` in 0…1, 0.5 unless given.

    Raises: ValueError for names that are not a Segmenter's (listed), or that are missing.
    """
    naming = naming_of(state) or PADDLE_VIT
    known, rest = naming.ours(state)
    if rest:
        raise ValueError(f"names that are no Segmenter's: {', '.join(rest[:8])}{' …' if len(rest) > 8 else ''}")
    sizes = sizes_of(known, naming.source)
    settings = {"norm_eps": BLOCK_EPS, "final_norm_eps": NORM_EPS, "mean": mean or UNTOLD, "std": std or UNTOLD}
    side = sizes.grid * sizes.patch
    return Blueprint(
        naming.source,
        sizes.backbone(VIT_NAME if sizes.prefix == 1 else DEIT_NAME, **settings, drop_path_rate=0.0),
        sizes.decoder(dropout=0.0, drop_path_rate=0.0, block_norm_eps=BLOCK_EPS),
        sizes.classes,
        known,
        ModelSpec(None, None, 255, window=side, stride=side, short_side=side),
        {},
    )
