"""Regions of a picture as COCO writes them: polygons and run lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]  # (N, 2), x and y in pixels; pixel 0 reaches from 0 to 1
FARTHEST = 1e6  # pixels; a coordinate beyond is a mistake


def polygon_points(numbers: Any) -> Points:
    """The corners of a polygon [x, y, x, y, …]; raises ValueError for what is none."""
    try:
        flat = np.asarray(numbers, np.float64)
    except (TypeError, ValueError):
        flat = np.empty(0)
    if flat.ndim != 1 or not flat.size or flat.size % 2:
        raise ValueError("a polygon must be a list of x, y, x, y, …")
    if not (np.abs(flat) <= FARTHEST).all():  # also false for nan
        raise ValueError("a polygon has coordinates that are no pixels")
    return flat.reshape(-1, 2)


def run_lengths(counts: Any, height: int, width: int) -> list[int]:
    """The lengths of the runs of 0, 1, 0, …, column after column; decodes COCO's compressed strings.

    Raises: ValueError for what is no list of lengths, or does not fill the picture.
    """
    if isinstance(counts, str):
        counts = _decompressed(counts)
    if not isinstance(counts, list) or not all(isinstance(n, int) and n >= 0 for n in counts):
        raise ValueError("run lengths must be whole numbers, or a compressed string")
    if sum(counts) != height * width:
        raise ValueError(f"run lengths cover {sum(counts)} pixels, the picture has {width}x{height}")
    return counts


def _decompressed(text: str) -> list[int]:
    """COCO's maskApi: six bits a character from "0" on, the lowest first. Bit 5: more follow; bit 4 of the last: sign.

    From the fourth on, each number is a difference to the one two before.
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        chunk = ord(character) - 48
        if not 0 <= chunk < 64:
            raise ValueError(f"a compressed run length holds the character {character!r}")
        number |= (chunk & 31) << shift
        shift += 5
        if not chunk & 32:
            if chunk & 16:
                number -= 1 << shift
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("a compressed run length is cut off")
    return counts


def mask_of_runs(counts: Sequence[int], height: int, width: int) -> Mask:
    """(height, width)."""
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def mask_of_polygons(polygons: Sequence[Points], height: int, width: int) -> tuple[slice, slice, Mask]:
    """The union of polygons: rows and columns of a box that holds it, and what of the box is inside.

    A pixel is inside when its centre is, at (column + 0.5, row + 0.5), by the even-odd rule; so polygons that share an
    edge share no pixel. COCO's own masks follow this rule too, with corners rounded to fifths of a pixel; OpenCV's
    fillPoly would add the outline, half a pixel on every side.
    """
    corners = np.concatenate(polygons)
    limits = np.array([width, height])
    left, top = np.clip(np.floor(corners.min(0)), 0, limits).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)), 0, limits).astype(int)
    mask = np.zeros((bottom - top, right - left), np.bool_)
    if mask.size:
        for points in polygons:
            mask |= _inside(points - (left, top), *mask.shape)
    return slice(top, bottom), slice(left, right), mask


def _inside(points: Points, height: int, width: int) -> Mask:
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    first, last = (np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (np.minimum(y0, y1), np.maximum(y0, y1)))
    rows = last - first  # whose centre line the edge crosses: (N,)
    edge = np.repeat(np.arange(len(points)), rows)  # (crossings,)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(int)  # the first whose centre is not left of the edge
    crossings = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).reshape(height, width + 1)
    return crossings[:, :width].cumsum(axis=1) % 2 == 1
