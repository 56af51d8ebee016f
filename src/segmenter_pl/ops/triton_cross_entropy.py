# mypy: disable-error-code="no-untyped-def"
"""Summed cross-entropy of upsampled logits in two Triton kernels, which do what `torch_cross_entropy` does.

Legend: B batch, K classes, H W pixels, h w coarse cells, s stride. A block is the s × s pixels between the centres of
four neighbouring cells, its corners; V × S = (h + 1) × (w + 1) blocks cover an image and a border of half a cell. A
program sees a part of a block, n = ROWS · COLUMNS pixels, and C = CLASSES classes at a time. COLUMNS is s rounded up to
a power of 2, as Triton wants it; what lies beyond the block, the picture or the classes is masked.

1. `_forward_kernel`, a program for each part of each block: walks over the classes with a running maximum and sum, and
   stores log2(Σ 2^x) of its pixels and their loss.
2. `_gradient_kernel`, a program for each block and each C classes: knowing that sum it needs no other class, walks over
   the parts of its block, and stores what the pixels give to the four corners.

Upsampled logits live in registers; memory holds one number for each pixel and four for each block and class. Programs
write to places of their own, and plain sums put them together: no atomics, so the same bits at every run.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from segmenter_pl.ops.torch_cross_entropy import Weighting, gathered

# n (or a row of a block, if longer) and C. Compiled for an H200 this leaves 16 and 32 warps to a multiprocessor; other
# sizes from 16 × 32 to 64 × 64, by 1…8 warps, leave 8…28. No GPU was at hand to time them.
MOST_PIXELS, MOST_CLASSES = 32, 32


def summed_cross_entropy(
    logits: Tensor, target: Tensor, weighting: Weighting, stride: int, with_gradient: bool
) -> tuple[Tensor, Tensor]:
    """As `torch_cross_entropy.summed_cross_entropy`, for float32 on CUDA; a label out of range makes the sum nan."""
    batch, h, w, classes = logits.shape
    height, width = target.shape[1:]
    logits, target = logits.contiguous(), target.contiguous()
    weights = logits.new_ones(classes) if weighting.classes is None else weighting.classes.contiguous()
    kept = 1.0 if weighting.spread is None else 1 - weighting.smoothing
    floor = logits.new_zeros(()) if weighting.spread is None else weighting.spread.sum()
    columns = triton.next_power_of_2(stride)
    rows = max(1, MOST_PIXELS // columns)
    chunk = min(MOST_CLASSES, triton.next_power_of_2(classes))
    parts, blocks = triton.cdiv(stride, rows), batch * (h + 1) * (w + 1)
    log_partition = logits.new_empty(target.shape)  # (B, H, W)
    losses = logits.new_empty(blocks, parts)
    pixels = (target, weights, floor, kept, weighting.ignore_index, h, w, height, width, classes)
    sizes = {"STRIDE": stride, "ROWS": rows, "COLUMNS": columns, "CLASSES": chunk, "enable_fp_fusion": True}
    with torch.cuda.device_of(logits):  # kernels start on the current device
        _forward_kernel[(blocks, parts)](logits, log_partition, losses, *pixels, **sizes)
        if not with_gradient:
            return losses.sum(), logits.new_empty(0)
        at_corners = logits.new_empty(batch, h + 1, w + 1, 4, classes)
        grid = (blocks, triton.cdiv(classes, chunk))
        _gradient_kernel[grid](logits, log_partition, at_corners, *pixels, **sizes)
        return losses.sum(), gathered(at_corners)


@triton.jit
def _forward_kernel(
    logits, log_partition, losses, target, weights, floor, kept, ignore_index, h, w, height, width, classes,
    STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    block, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pixel, label, valid, down, across = _pixels(
        target, block, part, ignore_index, h, w, height, width, STRIDE, ROWS, COLUMNS
    )
    share, mass = _weights(label, valid, weights, tl.load(floor), kept, classes)
    largest = tl.full([ROWS * COLUMNS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS * COLUMNS], tl.float32)  # Σ 2^(x - largest)
    score = tl.zeros([ROWS * COLUMNS], tl.float32)  # x[label]
    for start in range(0, classes, CLASSES):
        index = start + tl.arange(0, CLASSES)
        x = _upsampled(logits, block, index, down, across, h, w, classes)  # (n, C)
        score += tl.sum(tl.where(index[None, :] == label[:, None], x, 0), 1)
        x = tl.where(index[None, :] < classes, x, float("-inf"))
        higher = tl.maximum(largest, tl.max(x, 1))
        total = total * tl.exp2(largest - higher) + tl.sum(tl.exp2(x - higher[:, None]), 1)
        largest = higher
    logarithm = tl.log2(total)
    tl.store(log_partition + pixel, largest + logarithm, mask=valid)
    # The difference first: where the model is sure both are nearly the same, and what is left would be rounding.
    loss = share * (logarithm + (largest - score)) + (mass - share) * (largest + logarithm)
    loss = tl.where((label >= 0) & (label < classes), loss, float("nan"))
    tl.store(losses + block * tl.num_programs(1) + part, tl.sum(tl.where(valid, loss, 0), 0))


@triton.jit
def _gradient_kernel(
    logits, log_partition, at_corners, target, weights, floor, kept, ignore_index, h, w, height, width, classes,
    STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    index = tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)
    above = tl.zeros([ROWS * COLUMNS, CLASSES], tl.float32)  # what goes to the upper and to the lower corners
    below = tl.zeros([ROWS * COLUMNS, CLASSES], tl.float32)
    for part in range((STRIDE + ROWS - 1) // ROWS):
        pixel, label, valid, down, across = _pixels(
            target, block, part, ignore_index, h, w, height, width, STRIDE, ROWS, COLUMNS
        )
        share, mass = _weights(label, valid, weights, tl.load(floor), kept, classes)
        x = _upsampled(logits, block, index, down, across, h, w, classes)  # (n, C)
        logarithm = x - tl.load(log_partition + pixel, mask=valid, other=0)[:, None]
        softmax = tl.exp2(tl.minimum(logarithm, 0))  # the minimum is for classes that do not exist
        gradient = mass[:, None] * softmax - tl.where(index[None, :] == label[:, None], share[:, None], 0)
        above += (1 - down)[:, None] * gradient
        below += down[:, None] * gradient
    corner = at_corners + block * 4 * classes + index
    right = ((tl.arange(0, ROWS * COLUMNS) % COLUMNS + (0.5 if STRIDE % 2 == 0 else 0.0)) / STRIDE)[:, None]
    tl.store(corner, tl.sum((1 - right) * above, 0), mask=index < classes)
    tl.store(corner + classes, tl.sum(right * above, 0), mask=index < classes)
    tl.store(corner + 2 * classes, tl.sum((1 - right) * below, 0), mask=index < classes)
    tl.store(corner + 3 * classes, tl.sum(right * below, 0), mask=index < classes)


@triton.jit
def _pixels(
    target, block, part, ignore_index, h, w, height, width,
    STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Of the pixels of a part of a block, (n,) each: place in memory, label, whether they count, and where they lie
    between the corners, 0…1 downwards and to the right.
    """
    number = tl.arange(0, ROWS * COLUMNS)
    row, column = part * ROWS + number // COLUMNS, number % COLUMNS
    before: tl.constexpr = (STRIDE + 1) // 2  # pixels of the first block that lie beyond the border
    y = block // (w + 1) % (h + 1) * STRIDE + row - before
    x = block % (w + 1) * STRIDE + column - before
    inside = (row < STRIDE) & (column < STRIDE) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixel = (block // ((h + 1) * (w + 1)) * height + y) * width + x
    label = tl.load(target + pixel, mask=inside, other=0).to(tl.int32)
    first: tl.constexpr = 0.5 if STRIDE % 2 == 0 else 0.0
    return pixel, label, inside & (label != ignore_index), (row + first) / STRIDE, (column + first) / STRIDE


@triton.jit
def _weights(label, valid, weights, floor, kept, classes):
    """What a pixel gives to its label, and to all classes together: (n,) each."""
    weight = tl.load(weights + label, mask=valid & (label >= 0) & (label < classes), other=0)
    share = kept * weight
    return share, share + tl.where(valid, floor, 0)


@triton.jit
def _upsampled(logits, block, index, down, across, h, w, classes):
    """Logits of classes `index` (C,) at pixels of a block, (n, C); 0 for classes that do not exist."""
    image, row, column = block // ((h + 1) * (w + 1)), block // (w + 1) % (h + 1), block % (w + 1)
    # Beyond the border lie copies of the outermost cells.
    upper = logits + (image * h + tl.maximum(row - 1, 0)) * w * classes + index
    lower = logits + (image * h + tl.minimum(row, h - 1)) * w * classes + index
    left, right = tl.maximum(column - 1, 0) * classes, tl.minimum(column, w - 1) * classes
    real = index < classes
    a, b = tl.load(upper + left, mask=real, other=0), tl.load(upper + right, mask=real, other=0)
    c, d = tl.load(lower + left, mask=real, other=0), tl.load(lower + right, mask=real, other=0)
    first = a[None, :] + down[:, None] * (c - a)[None, :]
    last = b[None, :] + down[:, None] * (d - b)[None, :]
    return first + across[:, None] * (last - first)
