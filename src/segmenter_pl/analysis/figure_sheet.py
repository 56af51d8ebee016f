"""Sheets of pictures as in a paper's figure: named columns, captions, a key of colours. Arrays are uint8, H×W×RGB."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segmenter_pl.visualize import Picture

LARGEST = 65500  # pixels, of libjpeg
MOST = 120_000_000  # pixels of a sheet, 360 MB

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Cell:
    """A picture that is small enough for the sheet, and what stands above it."""

    picture: Picture
    caption: str = ""


def fitted(picture: Picture, side: int) -> Picture:
    """Brought to this longer side; each new pixel has the mean colour of those that it covers."""
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if size == (width, height):
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def require_room(rows: int, columns: int, side: int) -> None:
    """Raise ValueError for a sheet that would be too large: pictures whose longer side is `side` pixels."""
    line = _letters(side) * 2
    fits = min(LARGEST, MOST // (columns * side)) // (side + line)
    if columns * (side + line) > LARGEST or fits < 1:
        raise ValueError(f"{columns} pictures of {side} pixels side by side are too many: give a smaller --size")
    if rows > fits:
        raise ValueError(
            f"{rows} rows of {columns} pictures of {side} pixels are too many for one sheet, at most {fits} fit: give "
            "fewer pictures, or a smaller --size"
        )


def figure(
    headings: Sequence[str],
    rows: Sequence[Sequence[Cell | None]],
    keys: Sequence[Sequence[tuple[str, Color]]],
    side: int,
    title: str = "",
) -> Picture:
    """A sheet on white: the headings of the columns, rows of cells, and below them what colours mean.

    Args:
        rows: each as long as `headings`, its pictures of one size, at most `side` pixels; None leaves a place empty.
        keys: texts and colours; each of them begins a new line.
        title: above everything.
    """
    letters = _letters(side)
    gap, line = letters // 2, letters * 3 // 2
    font, small = ImageFont.load_default(letters * 9 // 8), ImageFont.load_default(letters)
    across = max(cell.picture.shape[1] for row in rows for cell in row if cell) + gap
    heights = [max(cell.picture.shape[0] for cell in row if cell) + line + gap for row in rows]
    width = len(headings) * across + gap
    key = np.concatenate([_key(entries, width, letters) for entries in keys if entries])
    top = gap + (line + gap if title else 0) + line
    page = Image.new("RGB", (width, top + sum(heights) + len(key)), "white")
    draw = ImageDraw.Draw(page)
    if title:
        draw.text((gap, gap + line / 2), shortened(title, font, width - 2 * gap), "black", font, anchor="lm")
    for column, heading in enumerate(headings):
        middle = gap + column * across + (across - gap) / 2
        draw.text((middle, top - line / 2), shortened(heading, font, across - gap), "black", font, anchor="mm")
    y = top
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            if cell is not None:
                x = gap + column * across
                caption = shortened(cell.caption, small, across - gap)
                draw.text((x, y + line / 2), caption, (60, 60, 60), small, anchor="lm")
                page.paste(Image.fromarray(cell.picture), (x, y + line))
        y += height
    page.paste(Image.fromarray(key), (0, y))
    return np.asarray(page)


def shortened(text: str, font: Font, width: float) -> str:
    """A text that fits: of one that is too long, the beginning and the end, which in names differ most."""
    kept, short = len(text), text
    while kept and font.getlength(short) > width:
        kept -= 1
        short = text[: kept // 2] + "…" + text[len(text) - (kept - kept // 2) :] if kept else ""
    return short


def _letters(side: int) -> int:
    """Height of letters in pixels."""
    return max(side // 30, 11)


def _key(entries: Sequence[tuple[str, Color]], width: int, letters: int) -> Picture:
    """Colours and their texts, in as many lines of this width as it takes."""
    font, gap, line = ImageFont.load_default(letters), letters // 2, letters * 3 // 2
    breadth = int(max(font.getlength(text) for text, _ in entries)) + letters + 3 * gap
    columns = max((width - gap) // breadth, 1)
    sheet = Image.new("RGB", (width, -(-len(entries) // columns) * line + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (text, color) in enumerate(entries):
        x, y = gap + i % columns * breadth, gap + i // columns * line
        draw.rectangle((x, y, x + letters - 1, y + letters - 1), fill=color, outline="black")
        draw.text((x + letters + gap, y + letters / 2), text, "black", font, anchor="lm")
    return np.asarray(sheet)
