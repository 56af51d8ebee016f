"""A contact sheet: pictures as the model sees them, their labels in colour beside them, names below."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segmenter_pl.data.classes import Classes
from segmenter_pl.visualize import LONGEST_NAME, Picture, overlay

GAP, SEAM = 12, 2  # pixels between samples, and between a picture and its labels
LINE, SIZE = 20, 13  # pixels per line of text, and of its letters
ALPHA = 0.65  # of colours over the picture
STRIPE, LIGHT, DARK = 6, 235, 60  # width in pixels and greys of the hatching
IGNORED = "does not count"


@dataclass(frozen=True)
class Sample:
    """A picture (H, W, 3) and its mask (H, W) of train ids."""

    name: str
    image: Picture
    mask: NDArray[np.integer]


def contact_sheet(samples: Sequence[Sample], classes: Classes, columns: int, side: int) -> Picture:
    """All samples in rows on one picture, and a legend of the classes that they hold.

    Each is a picture with its labels on the right, SEAM pixels apart, and its name below. A longer side than `side`
    is shrunk to it, a smaller picture keeps its size.
    """
    columns = min(columns, len(samples))
    shown = [_fitted(sample, side) for sample in samples]
    height, width = np.max([sample.mask.shape for sample in shown], axis=0).tolist()
    across, down = 2 * width + SEAM + GAP, height + LINE + GAP
    legend = _legend(shown, classes, columns * across + GAP)
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * across + GAP, rows * down + GAP + legend.height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(SIZE)
    for i, sample in enumerate(shown):
        x, y = GAP + i % columns * across, GAP + i // columns * down
        sheet.paste(Image.fromarray(sample.image), (x, y))
        sheet.paste(Image.fromarray(coloured(sample, classes)), (x + sample.mask.shape[1] + SEAM, y))
        name = _cut(sample.name, font, across - GAP)
        draw.text((x, y + sample.mask.shape[0] + LINE / 2), name, "black", font, anchor="lm")
    sheet.paste(legend, (0, rows * down + GAP))
    return np.array(sheet)


def coloured(sample: Sample, classes: Classes) -> Picture:
    """The picture under the colours of its classes; what does not count is hatched."""
    mixed = overlay(sample.image, sample.mask, classes.palette, ALPHA)
    ignored = sample.mask == classes.ignore_index
    return np.where(ignored[..., None], _hatching(*sample.mask.shape), mixed)


def _hatching(height: int, width: int) -> Picture:
    """Diagonal stripes (H, W, 1), as no class looks."""
    y, x = np.ogrid[:height, :width]
    return np.where((x + y) // STRIPE % 2 == 0, LIGHT, DARK).astype(np.uint8)[..., None]


def _fitted(sample: Sample, side: int) -> Sample:
    height, width = sample.mask.shape
    if max(height, width) <= side:
        return sample
    factor = side / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    mask = cv2.resize(sample.mask, size, interpolation=cv2.INTER_NEAREST).astype(sample.mask.dtype, copy=False)
    return Sample(sample.name, image, mask)


def _legend(samples: Sequence[Sample], classes: Classes, width: int) -> Image.Image:
    """Colour and name of the classes present, in lines of this width."""
    font = ImageFont.load_default(SIZE)
    present = np.unique(np.concatenate([np.unique(sample.mask) for sample in samples])).tolist()
    names = {k: IGNORED if k == classes.ignore_index else classes.names[k][:LONGEST_NAME] for k in present}
    breadth = int(max(font.getlength(name) for name in names.values())) + LINE + 2 * GAP
    columns = max((width - GAP) // breadth, 1)
    sheet = Image.new("RGB", (width, -(-len(names) // columns) * LINE + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (k, name) in enumerate(names.items()):
        x, y = GAP + i % columns * breadth, i // columns * LINE
        if k == classes.ignore_index:
            sheet.paste(Image.fromarray(_hatching(SIZE, SIZE)[..., 0]), (x, y))
        else:
            draw.rectangle((x, y, x + SIZE - 1, y + SIZE - 1), fill=classes.palette[k])
        draw.rectangle((x, y, x + SIZE - 1, y + SIZE - 1), outline="black")
        draw.text((x + LINE, y + SIZE / 2), name, "black", font, anchor="lm")
    return sheet


def _cut(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """The end of a text that is too long: it differs more than the beginning."""
    short = text
    while short and font.getlength(short if short == text else f"…{short}") > width:
        short = short[1:]
    return short if short == text else f"…{short}"
