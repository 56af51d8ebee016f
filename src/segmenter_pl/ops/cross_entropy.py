"""Cross-entropy of upsampled logits that never holds a K x H x W tensor, with the gradient made in the forward pass.

Legend: B batch, K classes, H W pixels, h w coarse cells.

The work is done in `torch_cross_entropy` (any device) or `triton_cross_entropy` (CUDA, where Triton is installed). Both
take logits to base 2, because exp2 is three times faster than exp on a CPU and what a GPU has; and less the largest of
their cell, which no softmax notices and which keeps every upsampled logit at or below 0. The part of label smoothing
that does not depend on the labels is linear in the logits, and so is computed on the coarse grid. What is kept for the
backward pass has the size of the coarse logits.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from segmenter_pl.ops import torch_cross_entropy
from segmenter_pl.ops.torch_cross_entropy import Weighting, validity
from segmenter_pl.ops.triton_support import triton_works
from segmenter_pl.ops.upsample import interpolation_matrix


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
    gradient instead of nan. Computed in float32 (float64 for float64 logits), also under autocast; in plain torch the
    gradient ends in matrix products that follow `torch.set_float32_matmul_precision`. The same bits at every run.
    No second derivative. One operator for `torch.compile`, so that it breaks no graph.

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
        ValueError: sizes do not belong together; a label is out of range (only on the CPU: a GPU is not waited for, and
            Triton's loss is nan then).
    """
    _check_sizes(coarse, target, stride, class_weights)
    dtype = torch.promote_types(coarse.dtype, torch.float32)
    weights = None if class_weights is None else class_weights.to(dtype)
    with_gradient = torch.is_grad_enabled() and coarse.requires_grad
    total: Tensor = torch.ops.segmenter_pl.summed_cross_entropy(
        coarse.to(dtype), target, stride, ignore_index, weights, label_smoothing, with_gradient
    )[0]
    if reduction == "sum":
        return total
    denominator = pixel_weight(target, ignore_index=ignore_index, class_weights=weights).to(dtype)
    return total / torch.where(denominator == 0, 1, denominator)


def pixel_weight(target: Tensor, *, ignore_index: int = 255, class_weights: Tensor | None = None) -> Tensor:
    """What `reduction="mean"` divides by.

    Returns a scalar: the number of pixels of `target` (B, H, W) that are not `ignore_index` (int64), or, with
    `class_weights` (K,), the sum of the weights of their labels (dtype of the weights). It may be 0.
    """
    valid = validity(target, ignore_index)
    if class_weights is None:
        return valid.sum()
    return (class_weights[torch.where(valid, target, 0).long()] * valid).sum()


def _summed(
    coarse: Tensor,
    target: Tensor,
    stride: int,
    ignore_index: int,
    class_weights: Tensor | None,
    label_smoothing: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """The summed loss, and its gradient (B, h, w, K); one operator, because its loops are not for a compiler."""
    num_classes = coarse.shape[1]
    valid = validity(target, ignore_index)  # (B, H, W)
    if target.device.type == "cpu":
        _check_labels(torch.where(valid, target, 0), num_classes, ignore_index)
    spread = None
    if label_smoothing > 0:
        spread = coarse.new_ones(num_classes) if class_weights is None else class_weights
        spread = spread * (label_smoothing / num_classes)  # (K,)
    weighting = Weighting(ignore_index, class_weights, label_smoothing, spread)
    with torch.autocast(coarse.device.type, enabled=False):
        logits = coarse.permute(0, 2, 3, 1).contiguous() * math.log2(math.e)  # (B, h, w, K)
        logits -= logits.amax(-1, keepdim=True)
        total, gradient = _implementation(logits)(logits, target, weighting, stride, with_gradient)
        if spread is not None:
            counts = _downsampled(valid.to(logits.dtype), stride, logits)  # (B, h, w)
            total -= (counts * (logits @ spread)).sum()
            if with_gradient:
                gradient -= counts[..., None] * spread
    return total * math.log(2), gradient


def _like_summed(
    coarse: Tensor, target: Tensor, stride: Any, ignore_index: Any, class_weights: Any, smoothing: Any, gradient: bool
) -> tuple[Tensor, Tensor]:
    """What `_summed` returns, without its numbers."""
    batch, classes, h, w = coarse.shape
    return coarse.new_empty(()), coarse.new_empty((batch, h, w, classes) if gradient else 0)


def _keep_gradient(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, grad_total: Tensor, grad_gradient: Tensor | None) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():  # create_graph=True; the softmax would be taken for a constant
        raise RuntimeError("upsampled_cross_entropy has no second derivative (create_graph=True)")
    (gradient,) = ctx.saved_tensors
    return gradient.permute(0, 3, 1, 2) * grad_total, None, None, None, None, None, None


# Not `torch.library.custom_op`: its first call imports the compiler, seconds and 160 MB for those who do not compile.
_LIBRARY = torch.library.Library("segmenter_pl", "FRAGMENT")
_LIBRARY.define(
    "summed_cross_entropy(Tensor coarse, Tensor target, int stride, int ignore_index, Tensor? class_weights, "
    "float label_smoothing, bool with_gradient) -> (Tensor, Tensor)"
)
_LIBRARY.impl("summed_cross_entropy", _summed, "CompositeExplicitAutograd")
torch.library.register_fake("segmenter_pl::summed_cross_entropy", _like_summed, lib=_LIBRARY)
torch.library.register_autograd(
    "segmenter_pl::summed_cross_entropy", _backward, setup_context=_keep_gradient, lib=_LIBRARY
)


def _implementation(logits: Tensor) -> Any:
    """The function that suits device and dtype."""
    if logits.dtype == torch.float32 and triton_works(logits.device):
        from segmenter_pl.ops import triton_cross_entropy

        return triton_cross_entropy.summed_cross_entropy
    return torch_cross_entropy.summed_cross_entropy


def _downsampled(pixels: Tensor, stride: int, like: Tensor) -> Tensor:
    """Sums of pixels (B, H, W) at the cells they are upsampled from, by the same weights: (B, h, w)."""
    rows, columns = (
        interpolation_matrix(cells * stride, cells, crop=side, dtype=like.dtype, device=like.device)
        for cells, side in zip(like.shape[1:3], pixels.shape[1:], strict=True)
    )
    return rows.T @ pixels @ columns


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
