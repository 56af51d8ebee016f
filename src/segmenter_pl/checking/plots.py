"""The class histogram as a picture: bars on a logarithmic axis, in the classes' colours."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segmenter_pl.visualize import LONGEST_NAME, Palette

ROWS = 50  # classes in a column; more stand in further columns, so that 150 fit on a screen
BAR, GAP, MARGIN, LENGTH, LINE = 9, 6, 16, 320, 18  # pixels
INK, FAINT, PAPER, EDGE = "black", (215, 215, 215), "white", (90, 90, 90)
DECADES = (2, 6)  # least and most on the axis, below 100 %


def class_bars(
    shares: Mapping[str, NDArray[np.float64]], names: Sequence[str], palette: Palette, title: str
) -> Image.Image:
    """Shares of the labelled pixels, most frequent class of the first split at the top.

    Args:
        shares: (K,) fractions by split; of a class the first split is the uppermost bar, further ones are paler.
        names, palette: of the K classes.
    """
    font = ImageFont.load_default(13)
    first = next(iter(shares.values()), np.zeros(len(names)))
    order = np.argsort(-first, kind="stable")
    decades = _decades(list(shares.values()))
    columns, splits = -(-len(names) // ROWS), list(shares)
    rows = -(-len(names) // columns)
    row = max(BAR * len(splits), 13) + GAP
    text = int(max(font.getlength(_short(name)) for name in names)) + 1
    breadth = text + GAP + LENGTH + int(font.getlength("  0.00001 %")) + 2 * MARGIN
    heading = [f"{title}: classes, per cent of the labelled pixels"]
    if len(splits) > 1:
        heading.append(f"bars from above: {', '.join(splits)}; number: {splits[0]}; no bar: none")
    top = MARGIN + LINE * len(heading) + 2 * LINE
    width = max(columns * breadth, int(max(font.getlength(line) for line in heading)) + 2 * MARGIN)
    sheet = Image.new("RGB", (width, top + rows * row + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((MARGIN, MARGIN), "\n".join(heading), INK, font)
    for column in range(columns):
        left = column * breadth + MARGIN + text + GAP
        _axis(draw, left, top, min(rows, len(names) - column * rows) * row, decades)
        for place, k in enumerate(order[column * rows : (column + 1) * rows]):
            y = top + place * row
            draw.text((left - GAP, y + (row - GAP) / 2), _short(names[k]), INK, font, anchor="rm")
            bars = [(values[k], _paler(palette[k], i)) for i, values in enumerate(shares.values())]
            _row(draw, left, y, bars, decades, font)
    return sheet


def _row(
    draw: ImageDraw.ImageDraw,
    left: int,
    y: int,
    bars: list[tuple[float, tuple[int, ...]]],
    decades: int,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    longest = left
    for i, (share, color) in enumerate(bars):
        if share > 0:
            end = left + max(round(LENGTH * (1 + math.log10(share) / decades)), 1)
            draw.rectangle((left, y + i * BAR, end, y + (i + 1) * BAR - 1), fill=color, outline=EDGE)
            longest = max(longest, end)
    if bars:
        draw.text((longest + GAP, y + BAR * len(bars) / 2), percent(bars[0][0]), INK, font, anchor="lm")


def _axis(draw: ImageDraw.ImageDraw, left: int, top: int, height: int, decades: int) -> None:
    font = ImageFont.load_default(11)
    for i in range(decades + 1):
        x = left + LENGTH * i // decades
        draw.line((x, top - GAP, x, top + height), fill=FAINT)
        draw.text((x, top - GAP), f"{10.0 ** (i - decades + 2):.10f}".rstrip("0").rstrip("."), INK, font, anchor="mb")


def percent(share: float) -> str:
    """Two digits that count, e.g. 12 %, 0.034 %; 0 stays 0 %."""
    if share <= 0:
        return "0 %"
    digits = max(1 - math.floor(math.log10(100 * share) + 1e-9), 0)
    return f"{100 * share:.{digits}f}".rstrip("0").rstrip(".") + " %" if digits else f"{100 * share:.0f} %"


def _decades(shares: Sequence[NDArray[np.float64]]) -> int:
    """Powers of ten below 100 % that the axis needs for the smallest share."""
    least = min((float(values[values > 0].min()) for values in shares if (values > 0).any()), default=1.0)
    return int(np.clip(math.ceil(-math.log10(least)), *DECADES))


def _paler(color: tuple[int, int, int], steps: int) -> tuple[int, ...]:
    return tuple(round(255 + (value - 255) * 0.45**steps) for value in color)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
