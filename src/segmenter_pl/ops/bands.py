"""Full-size scores from the coarse logits of all sliding windows, without ever holding them at full size.

Averaging overlapping windows, upsampling them, resizing the whole and mirroring it are all linear, and separable: rows
are mixed by one matrix, columns by another. So the scores of any tile of the picture are two small matrix products away
from the windows' coarse logits, and a picture is done tile by tile.

Legend: K classes, H W pixels of the picture, H' W' of what the model saw, h w coarse cells of a window, n windows
along an axis, Y X = n·h n·w coarse cells of all windows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor

from segmenter_pl.ops import torch_scores
from segmenter_pl.ops.torch_scores import best_class, exponents
from segmenter_pl.ops.triton_support import triton_works
from segmenter_pl.ops.upsample import interpolation_matrix, neighbours

# Numbers in a tile (rows · columns · K) and its columns at most. CPU: within 5 % of the fastest of 2^17, …, 2^21
# numbers and 128, 256 or all columns, at K = 19, 60, 150, one or twelve views. A GPU wants fewer, larger kernels.
TILE_CPU = (3 * 2**17, 128)
TILE_GPU = (2**24, 2048)

CACHED_BYTES = 2**22  # of one that is kept for the next picture


@dataclass(frozen=True)
class View:
    """One version of the picture (scale, mirrored or not) as the model saw it.

    Attributes:
        logits: coarse logits of all windows side by side, (Y, X, K).
        rows: weights of the coarse rows for each row of the picture, (H, Y).
        columns: likewise, (W, X), of the mirrored picture if it was mirrored.
    """

    logits: Tensor
    rows: Tensor
    columns: Tensor
    mirrored: bool = False

    @property
    def across(self) -> Tensor:
        """Weights of the coarse columns for each column of the picture as it is, (W, X)."""
        return self.columns.flip(0) if self.mirrored else self.columns


def mixing_matrix(size: int, seen: int, anchors: tuple[int, ...], window: int, stride: int) -> Tensor:
    """Weights, along one axis, of the windows' coarse cells for each pixel of the picture.

    Each window's cells are upsampled by `stride` and cropped to the window; pixels that several windows cover are
    averaged over them; the `seen` pixels are resized to `size`, bilinearly.

    Args:
        size: pixels of the picture. seen: of what the model saw.
        anchors: first pixel of each window. window: their side. stride: pixels per coarse cell.

    Returns: (size, len(anchors) · ceil(window / stride)), float32, at most 4 nonzero weights per covering window.
    """
    wanted = 4 * size * len(anchors) * -(-window // stride)
    return (_cached_mixing if wanted <= CACHED_BYTES else _mixing)(size, seen, anchors, window, stride)


def _mixing(size: int, seen: int, anchors: tuple[int, ...], window: int, stride: int) -> Tensor:
    window = min(window, seen)
    cells = -(-window // stride)
    upsample = interpolation_matrix(cells * stride, cells, crop=window)  # (window, h)
    covered = torch.zeros(seen, 1, dtype=torch.float32)
    for anchor in anchors:
        covered[anchor : anchor + window] += 1

    def rows(pixels: Tensor) -> Tensor:
        """The weights for some of the seen pixels: (len(pixels), Y)."""
        mixing = torch.zeros(len(pixels), len(anchors) * cells, dtype=torch.float32)  # in any default dtype
        for i, anchor in enumerate(anchors):
            inside = (pixels >= anchor) & (pixels < anchor + window)
            mixing[inside, i * cells : (i + 1) * cells] = upsample[pixels[inside] - anchor]
        return mixing.div_(covered[pixels])

    if seen == size:
        return rows(torch.arange(size))
    first, second, weight = neighbours(seen, size)
    return rows(first).lerp_(rows(second), weight[:, None])


_cached_mixing = lru_cache(maxsize=32)(_mixing)  # six scales of two sides, and a few sizes


def banded_scores(views: Sequence[View], tile: tuple[int, int] | None = None) -> Iterator[tuple[slice, slice, Tensor]]:
    """Scores of the picture, tile by tile in reading order.

    One view gives its logits; several give the mean of their class probabilities.

    Args:
        views: all of the same picture.
        tile: rows and columns of a tile; None for what suits the device and K.

    Yields: rows, columns, and the scores (rows, columns, K) float32, computed in float32 also under autocast.
    """
    ops = _operations(views[0].logits)
    for rows, columns, wide, by_row in _widened(views, tile):
        yield rows, columns, ops.logits(wide[0], by_row[0]) if len(views) == 1 else ops.probabilities(wide, by_row)


def banded_labels(views: Sequence[View], tile: tuple[int, int] | None = None) -> Iterator[tuple[slice, slice, Tensor]]:
    """Class of the highest score of each pixel, the first one of equals; arguments as `banded_scores`.

    Yields: rows, columns, and the class ids (rows, columns) int64.
    """
    ops = _operations(views[0].logits)
    for rows, columns, wide, by_row in _widened(views, tile):
        if len(views) == 1:
            yield rows, columns, ops.labels(wide[0], by_row[0])
        else:
            yield rows, columns, best_class(ops.probabilities(wide, by_row))


def _operations(logits: Tensor) -> ModuleType:
    """Where a tile's rows are mixed, and soft-max and arg-max taken: Triton's kernels on CUDA, else plain torch."""
    if not triton_works(logits.device):
        return torch_scores
    from segmenter_pl.ops import triton_scores

    return triton_scores


def _widened(
    views: Sequence[View], tile: tuple[int, int] | None
) -> Iterator[tuple[slice, slice, list[Tensor], list[Tensor]]]:
    """Rows and columns of a tile; and of each view its coarse rows (r, columns, K), and their weights (rows, r)."""
    logits = views[0].logits
    height, width = views[0].rows.shape[0], views[0].columns.shape[0]
    tile_rows, tile_columns = tile or tile_size(logits.shape[-1], width, logits.device)
    columns = [
        (span, [_used(view.across[span], logits.device) for view in views])
        for span in (slice(x, min(x + tile_columns, width)) for x in range(0, width, tile_columns))
    ]
    for y in range(0, height, tile_rows):
        rows = slice(y, min(y + tile_rows, height))
        by_row = [_used(view.rows[rows], logits.device) for view in views]
        strips = [view.logits[cells] for view, (cells, _) in zip(views, by_row, strict=True)]  # (r, X, K) each
        if len(views) > 1:
            strips = [exponents(strip) for strip in strips]
        for span, by_column in columns:
            with torch.autocast(logits.device.type, enabled=False):
                wide = [weights @ strip[:, cells] for strip, (cells, weights) in zip(strips, by_column, strict=True)]
            yield rows, span, wide, [weights for _, weights in by_row]


def tile_size(num_classes: int, width: int, device: torch.device) -> tuple[int, int]:
    """Rows and columns that keep a tile in a CPU's cache, or a GPU busy."""
    elements, widest = TILE_GPU if device.type == "cuda" else TILE_CPU
    columns = min(width, widest)
    return max(4, elements // (columns * num_classes)), columns


def _used(weights: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The inputs that have a weight in any row, and those weights."""
    used = weights.any(0).nonzero()[:, 0]
    return used.to(device), weights[:, used].to(device)
