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

from segmenter_pl.ops.upsample import interpolation_matrix, source_span

# Rows per band. CPU: the fastest of 2, 4, 8, 16, 32 at K = 150 and W = 512. A GPU wants fewer, larger kernels.
BAND_ROWS_CPU = 8
BAND_ROWS_GPU = 64

# What a pixel's softmax is compared with: its label and the `share` of it, plus `valid * spread[k]` at every class k
# (label smoothing). label, share, valid (B, H, W); spread (K,).
SoftTarget = tuple[Tensor, Tensor, Tensor, Tensor | None]

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
    runs as matrix products and so follows `torch.set_float32_matmul_precision`. No second derivative.

    Args:
        coarse: logits (B, K, h, w), any floating dtype.
        target: labels (B, H, W) with h = ceil(H / stride), w = ceil(W / stride); uint8, int16 or int64, each 0..K-1 or
            `ignore_index`.
        stride: pixels per coarse cell.
        class_weights: (K,), or None for equal weights.
        label_smoothing: 0..1, as in `F.cross_entropy`.
        reduction: "sum", or "mean" = sum / `pixel_weight`.

    Raises:
        RuntimeError: a second derivative is asked for (`create_graph=True`).
        ValueError: sizes do not belong together; a label is out of range (only on the CPU: a GPU is not waited for).
    """
    _check_sizes(coarse, target, stride, class_weights)
    num_classes = coarse.shape[1]
    labels, valid = _labels_and_validity(target, ignore_index)  # (B, H, W)
    if labels.device.type == "cpu":
        _check_labels(labels, num_classes, ignore_index)
    dtype = torch.promote_types(coarse.dtype, torch.float32)
    weights = coarse.new_ones(num_classes, dtype=dtype) if class_weights is None else class_weights.to(dtype)
    spread = weights * (label_smoothing / num_classes) if label_smoothing > 0 else None  # (K,)
    pixel_weights = _weight_map(labels, valid, class_weights).to(dtype)  # (B, H, W)
    soft_target = (labels, (1 - label_smoothing) * pixel_weights, valid.to(dtype), spread)
    with_gradient = torch.is_grad_enabled() and coarse.requires_grad
    with torch.autocast(coarse.device.type, enabled=False):
        total: Tensor = _BandedCrossEntropy.apply(coarse.to(dtype), soft_target, stride, with_gradient)
    if reduction == "sum":
        return total
    denominator = pixel_weights.sum()
    return total / torch.where(denominator == 0, 1, denominator)


def pixel_weight(target: Tensor, *, ignore_index: int = 255, class_weights: Tensor | None = None) -> Tensor:
    """What `reduction="mean"` divides by.

    Returns a scalar: the number of pixels of `target` (B, H, W) that are not `ignore_index` (int64), or, with
    `class_weights` (K,), the sum of the weights of their labels (dtype of the weights). It may be 0.
    """
    return _weight_map(*_labels_and_validity(target, ignore_index), class_weights).sum()


class _BandedCrossEntropy(torch.autograd.Function):
    """Sum over the pixels of an upsampled batch; saves only the gradient with respect to the coarse logits."""

    @staticmethod
    def forward(ctx: Any, coarse: Tensor, soft_target: SoftTarget, stride: int, with_gradient: bool) -> Tensor:
        num_classes = coarse.shape[1]
        # CPU reductions over rows of a multiple of 32 are up to four times faster (whole loss: 20 % at K = 150, 35 % at
        # 59, 15 % at 19); it does not pay to append half a block or more.
        padding = -num_classes % 32 if -num_classes % 32 < 16 else 0
        logits = F.pad(coarse.permute(0, 2, 3, 1).contiguous(), (0, padding), value=PADDING_LOGIT)  # (B, h, w, C)
        gradient = torch.empty_like(logits) if with_gradient else None
        total = _loss_by_bands(logits, soft_target, stride, gradient)
        if gradient is not None:
            ctx.save_for_backward(gradient[..., :num_classes].permute(0, 3, 1, 2))  # (B, K, h, w)
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        if (
            torch.is_grad_enabled()
        ):  # create_graph=True; `once_differentiable` would let it pass and treat p as constant
            raise RuntimeError("upsampled_cross_entropy has no second derivative (create_graph=True)")
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None, None


def _loss_by_bands(logits: Tensor, soft_target: SoftTarget, stride: int, gradient: Tensor | None) -> Tensor:
    """Summed loss of coarse `logits` (B, h, w, C); fills `gradient`, of the same shape, unless None."""
    batch, h, w, classes = logits.shape
    *maps, spread = soft_target
    height, width = maps[0].shape[1:]
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
            label, share, valid = (pixels[image, rows].reshape(-1, 1) for pixels in maps)  # (n, 1)
            losses.append(_band_loss(band.view(-1, classes), label, share, valid, spread))
            if gradient is not None:
                wide_gradient[sources].flatten(1).addmm_(mix.T, band)
        if gradient is not None:
            torch.matmul(horizontal.T, wide_gradient, out=gradient[image])  # (h, w, C)
    return torch.stack(losses).sum()


def _band_loss(logits: Tensor, label: Tensor, share: Tensor, valid: Tensor, spread: Tensor | None) -> Tensor:
    """Summed cross-entropy of base-2 `logits` (n, C), which are overwritten with its gradient (in natural logits).

    With q the soft target of a pixel and p its softmax: loss = sum(q) * log(sum(exp(x))) - sum(q * x), and the gradient
    is sum(q) * p - q. Base 2 because exp2 is three times faster than exp on the CPU.
    """
    logits -= logits.amax(1, keepdim=True)
    mass, score = share, share * logits.gather(1, label)  # (n, 1)
    if spread is not None:
        mass = share + valid * spread.sum()
        score += valid * (logits[:, : len(spread)] @ spread)[:, None]
    exponentials = logits.exp2_()
    partition = exponentials.sum(1, keepdim=True)
    gradient = exponentials.mul_(mass / partition)
    gradient.scatter_add_(1, label, -share)
    if spread is not None:
        gradient[:, : len(spread)].addr_(valid[:, 0], spread, alpha=-1)
    return (mass * partition.log2() - score).sum() * math.log(2)


def _labels_and_validity(target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Labels as int64 with 0 where ignored, and the mask of the pixels that count."""
    labels = target.long()
    valid = labels != ignore_index
    return torch.where(valid, labels, 0), valid


def _weight_map(labels: Tensor, valid: Tensor, class_weights: Tensor | None) -> Tensor:
    """Weight of every pixel, 0 where ignored, shaped like `labels`."""
    return valid if class_weights is None else class_weights[labels] * valid


def _check_sizes(coarse: Tensor, target: Tensor, stride: int, class_weights: Tensor | None) -> None:
    batch, num_classes, h, w = coarse.shape
    if (len(target), *(math.ceil(side / stride) for side in target.shape[1:])) != (batch, h, w):
        raise ValueError(
            f"target of shape {tuple(target.shape)} does not belong to coarse logits of shape {tuple(coarse.shape)}, "
            f"which cover {h * stride} x {w * stride} pixels at stride {stride}; check stride and image padding"
        )
    if class_weights is not None and class_weights.shape != (num_classes,):
        raise ValueError(f"class_weights has shape {tuple(class_weights.shape)}; {num_classes} classes need as many")


def _check_labels(labels: Tensor, num_classes: int, ignore_index: int) -> None:
    low, high = (int(extreme) for extreme in labels.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"target holds label {low if low < 0 else high}, outside 0..{num_classes - 1} and not the ignore index "
            f"{ignore_index}; map it to {ignore_index} in the masks or give the model more classes"
        )
