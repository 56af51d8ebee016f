"""The loss against F.interpolate + F.cross_entropy: `python benchmarks/loss.py [scaling|cuda]`. Prints a Markdown table.

Forward and backward, batch 4, stride 16, random logits and labels, one thread; process CPU time, medians of alternating
runs; memory is the growth of the peak of a fresh process. Every row is measured with glibc's default malloc and with one
that keeps large blocks, because page faults flatter the lean code. Errors are relative, against float64, of the value and
of the gradient's length, for one image. `scaling` measures ours alone over classes and picture sizes. `cuda` compares, on
a GPU, the plain loss (eager and compiled), ours in plain torch and ours in Triton.

torch.compile of a tile's arithmetic was tried in place of the series of exponentials, one Zen 4 core that other work
shared, all tiles of the first row: ours 117 … 122 ms, the best compiled form of four (one exponential for each number, fused
with the sum) 202 … 213 ms and 39 s to compile, the series compiled 404 … 603 ms. So it stays out.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
RUNS = 5
BATCH = 4


def batch(classes: int, side: int, images: int = BATCH) -> tuple[Any, Any]:
    """Coarse logits (B, K, side/16, side/16) and labels (B, side, side)."""
    import torch

    torch.manual_seed(0)
    coarse = torch.randn(images, classes, side // 16, side // 16, requires_grad=True)
    return coarse, torch.randint(0, classes, (images, side, side), dtype=torch.int16).to(torch.int64 if classes > 255 else torch.uint8)


def plain(coarse: Any, target: Any) -> Any:
    import torch.nn.functional as F

    full = F.interpolate(coarse, size=tuple(target.shape[1:]), mode="bilinear", align_corners=False)
    return F.cross_entropy(full, target.long(), ignore_index=-100)


def ours(coarse: Any, target: Any) -> Any:
    from segmenter_pl.ops import upsampled_cross_entropy

    return upsampled_cross_entropy(coarse, target, 16, ignore_index=-100)


LOSSES: dict[str, Callable[[Any, Any], Any]] = {"plain": plain, "ours": ours}
