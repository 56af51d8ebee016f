"""One qualitative figure: rows of pictures, truths, predictions and maps, and a key of the colours in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.analysis.difference_maps import BLACK, Codes, Kind, painted
from segmenter_pl.analysis.figure_sheet import Cell, Color, figure, fitted
from segmenter_pl.visualize import Palette, Picture, overlay

NO_LABEL: tuple[str, Color] = ("no label", BLACK)


@dataclass(frozen=True)
class Look:
    """How figures look.

    Attributes:
        names, palette: of the K classes. alpha: of the colours over pictures, 0…1. side: longer side of each picture on
            the sheet, pixels.
    """

    names: Sequence[str]
    palette: Palette
    alpha: float
    side: int


class Figure:
    """A sheet that grows by rows; the pictures that it keeps are as small as it shows them.

    Args:
        headings: of the columns. title: above everything.
    """

    def __init__(self, headings: Sequence[str], look: Look, title: str = "") -> None:
        self.headings, self.look, self.title = headings, look, title
        self.rows: list[Sequence[Cell | None]] = []
        self._classes: set[int] = set()
        self._codes: dict[type[Kind], set[int]] = {}

    def photo(self, image: Picture, caption: str = "") -> Cell:
        """A picture (H, W, 3) as it is."""
        return Cell(fitted(image, self.look.side), caption)

    def labelled(self, image: Picture, labels: NDArray[np.integer], caption: str = "") -> Cell:
        """Class ids (H, W) in colours over the picture; ids of no class are black."""
        self._classes |= set(np.unique(labels).tolist())
        return self.photo(overlay(image, labels, self.look.palette, self.look.alpha), caption)

    def mapped(self, image: Picture, codes: Codes, kind: type[Kind], caption: str = "") -> Cell:
        """A map of differences (H, W) in colours."""
        self._codes.setdefault(kind, set()).update(np.unique(codes).tolist())
        return self.photo(painted(image, codes, kind), caption)

    def add(self, *cells: Cell | None) -> None:
        """A row, as long as the headings; None leaves a place empty."""
        self.rows.append(cells)

    def drawn(self) -> Picture:
        """The sheet."""
        names, palette = self.look.names, self.look.palette
        present = sorted(self._classes & set(range(len(names))))
        classes: list[tuple[str, Color]] = [(names[k], palette[k]) for k in present]
        kinds = [
            [(member.text, member.color) for code, member in enumerate(kind) if code in codes]
            for kind, codes in self._codes.items()
        ]
        if self._classes - set(present) and not any(NO_LABEL in entries for entries in kinds):
            classes.append(NO_LABEL)
        return figure(self.headings, self.rows, [classes, *kinds], self.look.side, self.title)
