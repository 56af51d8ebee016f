"""Label maps as colours, overlays and panels. Arrays are uint8, height × width × RGB."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
Palette = Sequence[tuple[int, int, int]]


def colorize(labels: NDArray[np.integer], palette: Palette) -> Picture:
    """Colours (H, W, 3) of class ids (H, W); ids outside the palette, such as the ignore index, are black."""
    table = np.zeros((len(palette) + 1, 3), np.uint8)
    table[: len(palette)] = palette
    ids = labels.astype(np.int64)
    outside = (ids < 0) | (ids >= len(palette))
    return table[np.where(outside, len(palette), ids)]


def overlay(picture: Picture, labels: NDArray[np.integer], palette: Palette, alpha: float = 0.5) -> Picture:
    """The picture with its label colours laid over it; `alpha` 0 shows the picture alone, 1 the colours alone."""
    mixed = (1 - alpha) * picture + alpha * colorize(labels, palette)
    return (mixed + 0.5).astype(np.uint8)


def panel(rows: Sequence[Sequence[Picture]], gap: int = 4) -> Picture:
    """Pictures in rows on white, each row's pictures of one height, e.g. (picture, truth, prediction)."""
    height = sum(row[0].shape[0] for row in rows) + gap * (len(rows) + 1)
    width = max(sum(p.shape[1] for p in row) + gap * (len(row) + 1) for row in rows)
    sheet = np.full((height, width, 3), 255, np.uint8)
    y = gap
    for row in rows:
        x = gap
        for picture in row:
            sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            x += picture.shape[1] + gap
        y += row[0].shape[0] + gap
    return sheet


def save_label_png(labels: NDArray[np.integer], path: Path, palette: Palette) -> None:
    """Write class ids as a palette PNG, so that it reads back as ids and shows as colours.

    Above 256 classes it is a 16-bit grey PNG, which has no colours.
    """
    if len(palette) > 256:
        image = Image.fromarray(labels.astype(np.uint16))
    else:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette([channel for color in palette for channel in color])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    image.save(temporary, format="PNG")
    temporary.replace(path)
