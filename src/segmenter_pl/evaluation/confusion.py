"""The confusion matrix as a picture and as a table."""

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

DARK = np.array([8, 48, 107])  # of a cell that holds its whole row
EMPTY = np.array([228, 228, 228])  # of a row without a pixel
INK, PAPER = (0, 0, 0), (255, 255, 255)
TITLE = "rows: truth, columns: prediction; per cent of the row; grey: does not occur"
MARGIN = 12


def confusion_csv(confusion: NDArray[np.int64], names: Sequence[str]) -> str:
    """Pixel counts with the class names around them; rows: truth, columns: prediction."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["truth", *names])
    table.writerows([name, *row] for name, row in zip(names, confusion.tolist(), strict=True))
    return text.getvalue()


def confusion_picture(confusion: NDArray[np.int64], names: Sequence[str]) -> Image.Image:
    """The matrix (K, K) with each row as shares of its sum, class names around it; the darker, the larger.

    Cells shrink from 48 to 13 pixels with the number of classes; where there is room, they hold the number.
    """
    cell = int(np.clip(1600 // len(names), 13, 48))
    font = ImageFont.load_default(min(cell - 2, 15))
    rows = confusion.sum(1, keepdims=True)
    share = confusion / np.maximum(rows, 1)
    # The square root lets confusions of a few per cent be seen.
    colors = 255 + np.sqrt(share)[..., None] * (DARK - 255)  # (K, K, 3)
    colors = np.where(rows[..., None] > 0, colors, EMPTY).astype(np.uint8)
    tiles = colors.repeat(cell, 0).repeat(cell, 1)
    tiles[::cell] = tiles[:, ::cell] = 200  # grid

    left = top = int(max(font.getlength(name) for name in names)) + 2 * MARGIN
    size = tiles.shape[0]
    title_height = cell + MARGIN
    width = max(left + size, int(font.getlength(TITLE))) + MARGIN
    sheet = Image.new("RGB", (width, title_height + top + size + MARGIN), PAPER)
    sheet.paste(Image.fromarray(tiles), (left, title_height + top))
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), TITLE, INK, font)
    for k, name in enumerate(names):
        middle = k * cell + cell // 2
        draw.text((left - MARGIN // 2, title_height + top + middle), name, INK, font, anchor="rm")
        sheet.paste(_upwards(name, font, top, cell), (left + k * cell, title_height))
    if cell >= 28:
        _write_shares(draw, share, (left, title_height + top), cell)
    return sheet


def _upwards(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, length: int, breadth: int) -> Image.Image:
    """A strip `breadth` wide and `length` high with the text standing on its lower end, read from there."""
    strip = Image.new("RGB", (length, breadth), PAPER)
    ImageDraw.Draw(strip).text((MARGIN // 2, breadth // 2), text, INK, font, anchor="lm")
    return strip.transpose(Image.Transpose.ROTATE_90)


def _write_shares(draw: ImageDraw.ImageDraw, share: NDArray[np.float64], corner: tuple[int, int], cell: int) -> None:
    font = ImageFont.load_default(13)
    for row, column in np.argwhere(share >= 0.005):
        at = (corner[0] + (column + 0.5) * cell, corner[1] + (row + 0.5) * cell)
        ink = PAPER if share[row, column] > 0.25 else INK
        draw.text(at, f"{100 * share[row, column]:.0f}", ink, font, anchor="mm")
