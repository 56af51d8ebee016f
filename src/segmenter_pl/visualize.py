"""Label maps as colours, overlays and panels. Arrays are uint8, height × width × RGB."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segmenter_pl.files import fresh

Picture = NDArray[np.uint8]
Palette = Sequence[tuple[int, int, int]]
BAND = 256  # rows that are mixed at a time, so that large pictures need no copy of themselves in float64
LONGEST_NAME = 32


def colorize(labels: NDArray[np.integer], palette: Palette) -> Picture:
    """Colours (H, W, 3) of class ids (H, W); ids outside the palette, such as the ignore index, are black."""
    table = np.zeros((len(palette) + 1, 3), np.uint8)
    table[: len(palette)] = palette
    ids = labels.astype(np.int64)
    outside = (ids < 0) | (ids >= len(palette))
    return table[np.where(outside, len(palette), ids)]


def overlay(picture: Picture, labels: NDArray[np.integer], palette: Palette, alpha: float = 0.5) -> Picture:
    """The picture with its label colours laid over it; `alpha` 0 shows the picture alone, 1 the colours alone."""
    out = np.empty_like(picture)
    for y in range(0, len(picture), BAND):
        rows = slice(y, y + BAND)
        mixed = (1 - alpha) * picture[rows] + alpha * colorize(labels[rows], palette)
        out[rows] = (mixed + 0.5).astype(np.uint8)
    return out


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
    with fresh(path) as temporary:
        image.save(temporary, format="PNG")


def default_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Distinct colours for classes that have none, by PASCAL VOC's rule but without its black.

    Bits 0, 3, 6, … of the class's number make the red, from the highest bit down; 1, 4, … the green; 2, 5, … the blue.
    """

    def channel(number: int, first: int) -> int:
        return sum((number >> (first + 3 * i) & 1) << (7 - i) for i in range(8))

    return tuple((channel(k, 0), channel(k, 1), channel(k, 2)) for k in range(1, num_classes + 1))


def class_shares(labels: NDArray[np.integer], num_classes: int) -> list[tuple[int, float]]:
    """The classes present and their shares of all pixels, 0…1, the largest first."""
    counts = np.bincount(labels.ravel(), minlength=num_classes)[:num_classes]
    present = sorted(np.flatnonzero(counts).tolist(), key=lambda k: (-counts[k], k))
    return [(k, float(counts[k] / labels.size)) for k in present]


def legend(
    shares: Sequence[tuple[int, float]], names: Sequence[str], palette: Palette, height: int, *, cut: bool = False
) -> Picture:
    """Colour, name and share of classes on white, to stand beside a picture of that height.

    The width depends on `names` and `height` only, so that the frames of a video keep one size.

    Args:
        shares: class ids and shares, as of `class_shares`. names, palette: of all classes.
        cut: keep to the height, with a last line on how many classes are left out; else it grows as needed.
    """
    size = min(max(height // 32, 12), 64)
    font, line, gap = ImageFont.load_default(size), size * 3 // 2, size // 2
    short = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]
    longest = int(max(font.getlength(name) for name in short)) + 1
    number = int(font.getlength("100.0 %")) + 1
    room = max((height - gap) // line, 1)
    left_out = max(len(shares) - room + 1, 0) if cut and len(shares) > room else 0
    shown = shares[: len(shares) - left_out]
    sheet = Image.new("RGB", (gap + size + gap + longest + gap + number + gap, max(height, gap + line * len(shown))))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 0, *sheet.size), fill="white")
    for i, (k, share) in enumerate(shown):
        y = gap + i * line
        draw.rectangle((gap, y, gap + size - 1, y + size - 1), fill=palette[k], outline="black")
        draw.text((2 * gap + size, y + size / 2), short[k], "black", font, anchor="lm")
        draw.text((sheet.width - gap, y + size / 2), f"{100 * share:.1f} %", "black", font, anchor="rm")
    if left_out:
        draw.text((gap, gap + len(shown) * line + size / 2), f"+ {left_out} more", "black", font, anchor="lm")
    return np.array(sheet)[:height] if cut else np.array(sheet)


def beside(picture: Picture, other: Picture) -> Picture:
    """Two pictures side by side, the lower one continued with white."""
    height = max(len(picture), len(other))
    padded = [np.pad(p, ((0, height - len(p)), (0, 0), (0, 0)), constant_values=255) for p in (picture, other)]
    return np.concatenate(padded, axis=1)
