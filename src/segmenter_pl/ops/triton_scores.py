# mypy: disable-error-code="no-untyped-def"
"""The last steps of a prediction, for one tile, as Triton kernels; the functions are those of `torch_scores`.

Legend: K classes, rows and c columns of a tile, r coarse rows that it is mixed from. A program takes P = PIXELS
neighbouring pixels of a row, and C = CLASSES classes at a time.

The mixed logits live in registers only: `_labels_kernel` keeps the best class so far, and `_probabilities_kernel` walks
over the classes twice, first for maximum and sum, then to add the probabilities to the mean. A weight is the same for a
whole program, and most are 0, so those coarse rows are passed over. No program writes where another does.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from segmenter_pl.ops.torch_scores import logits

__all__ = ["labels", "logits", "probabilities"]

PIXELS, MOST_CLASSES = 32, 32


def labels(wide: Tensor, weights: Tensor) -> Tensor:
    """As `torch_scores.labels`; the mixed logits are never stored."""
    r, columns, classes = wide.shape
    found = wide.new_empty(len(weights), columns, dtype=torch.int64)
    with torch.cuda.device_of(wide):  # kernels start on the current device
        _labels_kernel[_grid(found)](
            wide.contiguous(), weights.contiguous(), found, r, columns, classes, **_sizes(classes)
        )
    return found


def probabilities(wide: list[Tensor], weights: list[Tensor]) -> Tensor:
    """As `torch_scores.probabilities`; only the mean is stored."""
    columns, classes = wide[0].shape[1:]
    total = wide[0].new_empty(len(weights[0]), columns, classes)
    with torch.cuda.device_of(total):
        for view, (cells, by_row) in enumerate(zip(wide, weights, strict=True)):
            _probabilities_kernel[_grid(total)](
                cells.contiguous(), by_row.contiguous(), total, 1 / len(wide), len(cells), columns, classes,
                FIRST=view == 0, **_sizes(classes),
            )  # fmt: skip
    return total


def _grid(tile: Tensor) -> tuple[int, int]:
    return len(tile), triton.cdiv(tile.shape[1], PIXELS)


def _sizes(classes: int) -> dict[str, int | bool]:
    chunk = min(MOST_CLASSES, triton.next_power_of_2(classes))
    return {"PIXELS": PIXELS, "CLASSES": chunk, "enable_fp_fusion": True}


@triton.jit
def _labels_kernel(wide, weights, labels, r, columns, classes, PIXELS: tl.constexpr, CLASSES: tl.constexpr):
    row, column = tl.program_id(0), tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    highest = tl.full([PIXELS], float("-inf"), tl.float32)
    label = tl.zeros([PIXELS], tl.int32)
    for start in range(0, classes, CLASSES):
        x = _mixed(wide, weights, row, column, start, r, columns, classes, PIXELS, CLASSES)
        higher = tl.max(x, 1)
        label = tl.where(higher > highest, start + tl.argmax(x, 1), label)
        highest = tl.maximum(higher, highest)
    tl.store(labels + row * columns + column, label.to(tl.int64), mask=column < columns)


@triton.jit
def _probabilities_kernel(
    wide, weights, total, scale, r, columns, classes, FIRST: tl.constexpr, PIXELS: tl.constexpr, CLASSES: tl.constexpr
):
    row, column = tl.program_id(0), tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    highest = tl.full([PIXELS], float("-inf"), tl.float32)
    partition = tl.zeros([PIXELS], tl.float32)  # Σ 2^(x - highest)
    for start in range(0, classes, CLASSES):
        x = _mixed(wide, weights, row, column, start, r, columns, classes, PIXELS, CLASSES)
        higher = tl.maximum(highest, tl.max(x, 1))
        partition = partition * tl.exp2(highest - higher) + tl.sum(tl.exp2(x - higher[:, None]), 1)
        highest = higher
    for start in range(0, classes, CLASSES):
        x = _mixed(wide, weights, row, column, start, r, columns, classes, PIXELS, CLASSES)
        probability = tl.exp2(x - highest[:, None]) * (scale / partition)[:, None]
        index = start + tl.arange(0, CLASSES)
        place = total + (row * columns + column)[:, None] * classes + index[None, :]
        known = (column < columns)[:, None] & (index < classes)[None, :]
        if not FIRST:
            probability += tl.load(place, mask=known, other=0)
        tl.store(place, probability, mask=known)


@triton.jit
def _mixed(wide, weights, row, column, start, r, columns, classes, PIXELS: tl.constexpr, CLASSES: tl.constexpr):
    """Logits (P, C) of some pixels of a row; -inf for classes that do not exist."""
    index = start + tl.arange(0, CLASSES)
    known = (column < columns)[:, None] & (index < classes)[None, :]
    x = tl.where(index[None, :] < classes, tl.zeros([PIXELS, CLASSES], tl.float32), float("-inf"))
    for cell in range(r):
        weight = tl.load(weights + row * r + cell)
        if weight != 0:
            place = wide + (cell * columns + column)[:, None] * classes + index[None, :]
            x += weight * tl.load(place, mask=known, other=0)
    return x
