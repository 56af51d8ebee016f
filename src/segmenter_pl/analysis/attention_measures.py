"""Measures of attention over layers: mean distance and rollout. Shapes as in `attention`."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from segmenter_pl.analysis.attention import Attention, Layer, Part, number_of_layers, read_attention
from segmenter_pl.models import Segmenter


def mean_distance(attention: Attention, patch_size: int) -> Tensor:
    """How far each head looks (Segmenter, Figure 7; Dosovitskiy et al., 2021): (B, A) float64, in pixels.

    The mean over all patches i of the distance to the patches j that they attend to, Σ_j a_ij·|p_i − p_j| / Σ_j a_ij
    with p the patches' centres. Prefix tokens and class embeddings have no place: neither their rows nor what patches
    give to them counts.

    Args: patch_size: P, pixels of the picture as the model sees it.
    """
    height, width = attention.grid
    device = attention.query.device
    places = patch_size * torch.cartesian_prod(  # (N, 2)
        torch.arange(height, device=device).float(), torch.arange(width, device=device).float()
    )
    total = torch.zeros(attention.query.shape[:2], dtype=torch.float64, device=device)
    first = attention.patches.start
    for rows, weights in attention.chunks(attention.patches):
        seen = weights[..., attention.patches]  # (B, A, r, N)
        origins = places[rows.start - first : rows.stop - first]
        apart = torch.cdist(origins, places, compute_mode="donot_use_mm_for_euclid_dist")  # (r, N)
        # A row may give nothing at all to patches, in float32: it then counts as looking nowhere.
        mean = (seen * apart).sum(-1) / seen.sum(-1).clamp(min=1e-30)  # (B, A, r)
        total += mean.sum(-1, dtype=torch.float64)
    return total / (height * width)


def rollout(layers: Sequence[Attention], start: Tensor) -> Tensor:
    """Attention rollout (Abnar and Zuidema, 2020): how much of the first layer's input is in the last one's output.

    Each layer is taken as (A + I) / 2, with A the mean over its heads, and the layers are multiplied. The rows asked
    for go from the last layer back to the first, so no product of T by T matrices is made.

    Args: start: (B, R, T), e.g. 1 at the token asked for.
    Returns: (B, R, T); each row keeps its sum.
    """
    for layer in reversed(layers):
        passed = torch.zeros_like(start)
        for rows, weights in layer.chunks(slice(0, layer.tokens)):
            passed += start[:, :, rows] @ weights.mean(1)  # (B, R, r) · (B, r, T)
        start = (start + passed) / 2
    return start


def rollout_maps(model: Segmenter, images: Tensor, layer: Layer, rows: Sequence[int]) -> Tensor:
    """Rollout from some tokens of a layer's output back to the patches of the picture: (B, 1, R, h, w) float32.

    From a layer of the decoder it goes on through the whole encoder; what stays with class embeddings and prefix tokens
    is missing in the sum. Arguments as `attention.read_attention`.
    """
    part, number = layer
    through: list[Layer] = [(part, i) for i in range(number + 1)]
    if part == "dec":
        through = [*_all_layers(model, "enc"), *through]
    found = read_attention(model, images, through, lambda attention: attention)
    last = found[-1]
    one_hot = F.one_hot(torch.tensor(rows, device=images.device), last.tokens).float()  # (R, T)
    share = one_hot.expand(images.shape[0], -1, -1)
    if part == "dec":
        share = rollout(found[-number - 1 :], share)[..., last.patches]  # (B, R, N)
        found = found[: -number - 1]
        share = F.pad(share, (found[-1].tokens - share.shape[-1], 0))  # (B, R, E+N)
    share = rollout(found, share)[..., found[0].patches]  # (B, R, N)
    return share.unflatten(-1, last.grid)[:, None]


def mean_distances(model: Segmenter, images: Tensor) -> Tensor:
    """`mean_distance` of all heads of all layers of the encoder: (B, L, A) float64."""
    found = read_attention(
        model, images, _all_layers(model, "enc"), lambda attention: mean_distance(attention, model.encoder.patch_size)
    )
    return torch.stack(found, dim=1)


def _all_layers(model: Segmenter, part: Part) -> list[Layer]:
    return [(part, i) for i in range(number_of_layers(model, part))]
