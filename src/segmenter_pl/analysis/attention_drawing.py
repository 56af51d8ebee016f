"""Attention as colours, laid over pictures and on sheets. Arrays are uint8, height × width × RGB."""

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segmenter_pl.analysis.seen import Seen
from segmenter_pl.visualize import BAND, Picture

RED = (255, 0, 0)
SIDE = 480  # pixels, at most, of a picture's longer side on a sheet
COLUMNS = 4
GAP, SIZE, LINE = 8, 14, 22  # pixels between pictures, of letters, of a line of text


def require_color_map(name: str) -> None:
    """Raises ValueError where matplotlib, whose colour maps these are, is missing or has no such map."""
    try:
        from matplotlib import colormaps
    except ModuleNotFoundError as error:
        raise ValueError(
            'colour maps need matplotlib, which is not installed: pip install "segmenter-pl[plots]"'
        ) from error
    if name not in colormaps:
        close = get_close_matches(name, list(colormaps), n=5) or ["viridis", "inferno", "gray", "jet"]
        raise ValueError(f"--cmap {name}: matplotlib has no such colour map: give e.g. {', '.join(close)}")


def colored(values: NDArray, cmap: str, clip: float = 100) -> Picture:
    """Numbers (h, w) as colours (h, w, 3) of a matplotlib colour map, which spans from the lowest to the highest.

    Equal numbers all have its first colour, as with `matplotlib.pyplot.imsave`.

    Args: clip: numbers above this percentile, 0…100, all have the last colour: a few patches often get nearly all.
    """
    from matplotlib import colormaps

    low, high = float(values.min()), float(np.percentile(values, clip))
    scaled = ((values - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(values)
    return np.asarray(colormaps[cmap](scaled, bytes=True)[..., :3], np.uint8)


def attention_overlay(seen: Seen, values: NDArray, cmap: str, alpha: float, clip: float = 100) -> Picture:
    """A map (h, w) as colours over the picture: (H, W, 3). `alpha` 0 shows the picture alone, 1 the colours alone."""
    colors = colored(values, cmap, clip)
    out = np.empty_like(seen.rgb)
    full = seen.full_size(colors)
    for y in range(0, len(out), BAND):
        rows = slice(y, y + BAND)
        out[rows] = ((1 - alpha) * seen.rgb[rows] + alpha * full[rows] + 0.5).astype(np.uint8)
    return out


def marked(picture: Picture, seen: Seen, patch: tuple[int, int] | None) -> Picture:
    """A picture of the size of `seen.rgb` with a red frame around the pixels of a patch; as it is without one."""
    if patch is None:
        return picture
    left, right, top, bottom = seen.box(*patch)
    drawing = Image.fromarray(picture)
    edge = max(1, min(seen.rgb.shape[:2]) // 240)
    box = (left - edge, top - edge, right + edge, bottom + edge)
    ImageDraw.Draw(drawing).rectangle(box, outline=RED, width=edge)
    return np.asarray(drawing)


def sheet(tiles: Sequence[tuple[str, Picture]]) -> Picture:
    """Titled pictures of one size in rows of four, on white. A longer side than 480 pixels is shrunk to that."""
    height, width = tiles[0][1].shape[:2]
    factor = min(1.0, SIDE / max(height, width))
    height, width = max(1, round(height * factor)), max(1, round(width * factor))
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + LINE + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(SIZE)
    for i, (title, picture) in enumerate(tiles):
        x, y = GAP + i % columns * (width + GAP), GAP + i // columns * (height + LINE + GAP)
        draw.text((x, y + LINE / 2), title, "black", font, anchor="lm")
        page.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX), (x, y + LINE))
    return np.asarray(page)
