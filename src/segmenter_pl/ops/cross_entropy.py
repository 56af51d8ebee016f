"""Cross-entropy of upsampled logits, band by band, with the gradient made in the forward pass.

Legend: B batch, K classes, C = K padded for the vector unit, H W pixels, h w coarse cells, n = pixels of a band.

Bilinear upsampling is separable: an image is widened once, (h, w, C) -> (h, W, C), and then each band of output rows
is mixed from the two or three coarse rows it touches. The class axis is last, so that a band is a small contiguous
matrix whose softmax, loss and gradient stay in the cache. The gradient of the band goes back through the same matrices
at once; what is kept for the backward pass has the size of the coarse logits.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from segmenter_pl.ops.upsample import interpolation_matrix, source_span

# Rows per band. CPU: the fastest of 2, 4, 8, 16, 32 at K = 150 and W = 512. A GPU wants fewer, larger kernels.
BAND_ROWS_CPU = 8
BAND_ROWS_GPU = 64

# A logit that no real one comes near, yet finite: 0 * -inf would put nan into the matrix products.
PADDING_LOGIT = -1e30


def upsampled_cross_entropy(
    coarse: Tensor,
    target: Tensor,
    stride: int,
    *,
    ignore_index: int = 255,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """`F.cross_entropy` of coarse logits upsampled bilinearly by `stride` and cropped to the target's size.

    Same value and gradient as `F.interpolate(coarse, size=(h * stride, w * stride), mode="bilinear")[..., :H, :W]`
    followed by `F.cross_entropy`, without a (B, K, H, W) tensor; only a batch without a valid pixel gives 0 and a zero
    gradient instead of nan. Computed in float32 (float64 for float64 logits), also under autocast. The interpolation
    runs as matrix products and so follows `torch.set_float32_matmul_precision`. No double backward.

    Args:
        coarse: logits (B, K, h, w), any floating dtype.
        target: labels (B, H, W) with h = ceil(H / stride), w = ceil(W / stride); uint8, int16 or int64, each 0..K-1 or
            `ignore_index`.
        stride: pixels per coarse cell.
        class_weights: (K,), or None for equal weights.
        label_smoothing: 0..1, as in `F.cross_entropy`.
        reduction: "sum", or "mean" = sum / `pixel_weight`.

    Raises:
        ValueError: the sizes do not belong together, or (on the CPU; a GPU is not waited for) a label is out of range.
    """
    _check_sizes(coarse, target, stride)
    num_classes = coarse.shape[1]
    labels, valid = _labels_and_validity(target, ignore_index)  # (B, H, W)
    if labels.device.type == "cpu":
        _check_labels(labels, num_classes, ignore_index)
    dtype = torch.promote_types(coarse.dtype, torch.float32)
    weights = coarse.new_ones(num_classes, dtype=dtype) if class_weights is None else class_weights.to(dtype)
    # The distribution a pixel is compared with: `share` at its label plus `valid * spread[k]` at every class k.
    share = (1 - label_smoothing) * weights[labels] * valid  # (B, H, W)
    spread = weights * (label_smoothing / num_classes) if label_smoothing > 0 else None  # (K,)
    with_gradient = torch.is_grad_enabled() and coarse.requires_grad
    with torch.autocast(coarse.device.type, enabled=False):
        total: Tensor = _BandedCrossEntropy.apply(
            coarse.to(dtype), labels, share, valid.to(dtype), spread, stride, with_gradient
        )
    if reduction == "sum":
        return total
    denominator = pixel_weight(target, ignore_index=ignore_index, class_weights=class_weights)
    return total / torch.where(denominator == 0, 1, denominator)


def pixel_weight(target: Tensor, *, ignore_index: int = 255, class_weights: Tensor | None = None) -> Tensor:
    """What `reduction="mean"` divides by.

    Returns a scalar: the number of pixels of `target` (B, H, W) that are not `ignore_index` (int64), or, with
    `class_weights` (K,), the sum of the weights of their labels (dtype of the weights). It may be 0.
    """
    labels, valid = _labels_and_validity(target, ignore_index)
    return valid.sum() if class_weights is None else (class_weights[labels] * valid).sum()


class _BandedCrossEntropy(torch.autograd.Function):
    """Sum over the pixels of an upsampled batch; saves only the gradient with respect to the coarse logits."""

    @staticmethod
    def forward(
        ctx: Any,
        coarse: Tensor,
        labels: Tensor,
        share: Tensor,
        valid: Tensor,
        spread: Tensor | None,
        stride: int,
        with_gradient: bool,
    ) -> Tensor:
        num_classes = coarse.shape[1]
        # CPU reductions over rows of a multiple of 32 are up to four times faster (whole loss: 20 % at K = 150, 35 % at
        # 59, 15 % at 19); it does not pay to append half a block or more.
        padding = -num_classes % 32 if -num_classes % 32 < 16 else 0
        logits = F.pad(coarse.permute(0, 2, 3, 1), (0, padding), value=PADDING_LOGIT)  # (B, h, w, C)
        spread = None if spread is None else F.pad(spread, (0, padding))
        gradient = torch.empty_like(logits) if with_gradient else None
        total = _loss_by_bands(logits, labels, share, valid, spread, stride, gradient)
        if gradient is not None:
            ctx.save_for_backward(gradient[..., :num_classes].permute(0, 3, 1, 2))  # (B, K, h, w)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None, None, None, None, None


def _loss_by_bands(
    logits: Tensor,
    labels: Tensor,
    share: Tensor,
    valid: Tensor,
    spread: Tensor | None,
    stride: int,
    gradient: Tensor | None,
) -> Tensor:
    """Summed loss of coarse `logits` (B, h, w, C); fills `gradient`, of the same shape, unless None."""
    batch, h, w, classes = logits.shape
    height, width = labels.shape[1:]
    vertical = interpolation_matrix(h * stride, h, crop=height, dtype=logits.dtype, device=logits.device)
    horizontal = interpolation_matrix(w * stride, w, crop=width, dtype=logits.dtype, device=logits.device)
    band_rows = BAND_ROWS_CPU if logits.device.type == "cpu" else BAND_ROWS_GPU
    # Allocated once: a fresh large block costs page faults, which take longer than the arithmetic on it.
    wide = logits.new_empty(h, width, classes)
    wide_gradient = torch.empty_like(wide)
    buffer = logits.new_empty(band_rows, width * classes)

    losses = []
    for image in range(batch):
        torch.matmul(horizontal * math.log2(math.e), logits[image], out=wide)  # (h, W, C), logits to base 2
        wide_gradient.zero_()
        for start in range(0, height, band_rows):
            rows = slice(start, min(start + band_rows, height))
            sources = slice(*source_span(rows.start, rows.stop, h * stride, h))
            mix, band = vertical[rows, sources], buffer[: rows.stop - start]
            torch.mm(mix, wide[sources].flatten(1), out=band)
            soft_target = (x[image, rows].reshape(-1, 1) for x in (labels, share, valid))  # (n, 1) each
            losses.append(_band_loss(band.view(-1, classes), *soft_target, spread))
            if gradient is not None:
                wide_gradient[sources].flatten(1).addmm_(mix.T, band)
        if gradient is not None:
            torch.matmul(horizontal.T, wide_gradient, out=gradient[image])  # (h, w, C)
    return torch.stack(losses).sum()


def _band_loss(logits: Tensor, labels: Tensor, share: Tensor, valid: Tensor, spread: Tensor | None) -> Tensor:
    """Summed cross-entropy of base-2 `logits` (n, C), which are overwritten with its gradient (in natural logits).

    With q the soft target of a pixel and p its softmax: loss = sum(q) * log(sum(exp(x))) - sum(q * x), and the gradient
    is sum(q) * p - q. Base 2 because exp2 is three times faster than exp on the CPU.
    """
    logits -= logits.amax(1, keepdim=True)
    mass, score = share, share * logits.gather(1, labels)  # (n, 1)
    if spread is not None:
        mass = share + valid * spread.sum()
        score += valid * (logits @ spread)[:, None]
    exponentials = logits.exp2_()
    partition = exponentials.sum(1, keepdim=True)
    gradient = exponentials.mul_(mass / partition)
    gradient.scatter_add_(1, labels, -share)
    if spread is not None:
        gradient.addr_(valid[:, 0], spread, alpha=-1)
    return (mass * partition.log2() - score).sum() * math.log(2)


def _labels_and_validity(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Labels as int64 with 0 where ignored, and the mask of the pixels that count."""
    labels = target.long()
    valid = labels != ignore_index
    return torch.where(valid, labels, 0), valid


def _check_sizes(coarse: Tensor, target: Tensor, stride: int) -> None:
    batch, _, h, w = coarse.shape
    cells = [math.ceil(side / stride) for side in target.shape[1:]]
    if [len(target), *cells] != [batch, h, w]:
        raise ValueError(
            f"target of shape {tuple(target.shape)} does not belong to coarse logits of shape {tuple(coarse.shape)}: "
            f"at stride {stride} these cover {h * stride} x {w * stride} pixels and the target needs {cells} cells; "
            f"check the model's stride and the padding of the images"
        )


def _check_labels(labels: Tensor, num_classes: int, ignore_index: int) -> None:
    low, high = (int(extreme) for extreme in labels.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"label {low if low < 0 else high} is outside 0..{num_classes - 1} and is not the ignore index "
            f"{ignore_index}; map it to {ignore_index} in the masks or give the model more classes"
        )
