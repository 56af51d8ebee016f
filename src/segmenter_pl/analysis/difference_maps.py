"""Maps of mistakes and differences: a small code for each pixel, and the colours that a figure shows it in.

Shapes: H W pixels. The colours are told apart with any kind of colour vision (Okabe and Ito, 2008).
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.visualize import BAND, Picture

Codes = NDArray[np.uint8]
RED, BLUE, GREEN = (215, 48, 39), (0, 114, 178), (0, 158, 115)
WHITE, GREY, BLACK = (255, 255, 255), (90, 90, 90), (0, 0, 0)


class Kind(Enum):
    """What a code means, and its colour; the codes of a map are their positions in the class."""

    @property
    def text(self) -> str:
        """For a legend."""
        return self.value[0]

    @property
    def color(self) -> tuple[int, int, int]:
        """RGB, 0…255."""
        return self.value[1]


class Outcome(Kind):
    """Of a prediction."""

    RIGHT = ("right", WHITE)
    WRONG = ("wrong", RED)
    IGNORED = ("no label", BLACK)


class Detection(Kind):
    """Of a class."""

    ELSEWHERE = ("elsewhere", WHITE)
    FOUND = ("found", GREEN)
    MISSED = ("missed", RED)
    FALSE = ("false alarm", BLUE)
    IGNORED = ("no label", BLACK)


class Duel(Kind):
    """Of two predictions."""

    RIGHT = ("both right", WHITE)
    WRONG = ("both wrong", GREY)
    FIRST = ("only the first right", RED)
    SECOND = ("only the second right", BLUE)
    IGNORED = ("no label", BLACK)


class Agreement(Kind):
    """Of two predictions without a truth."""

    SAME = ("the same", WHITE)
    OTHER = ("another class", RED)


def outcomes(labels: NDArray[np.integer], truth: NDArray[np.integer], ignore_index: int) -> Codes:
    """`Outcome` of each pixel (H, W), from class ids."""
    return _coded(Outcome, (labels != truth, Outcome.WRONG), (truth == ignore_index, Outcome.IGNORED))


def detections(labels: NDArray[np.integer], truth: NDArray[np.integer], number: int, ignore_index: int) -> Codes:
    """`Detection` of a class at each pixel (H, W), from class ids."""
    found, known = labels == number, truth == number
    return _coded(
        Detection,
        (found & known, Detection.FOUND),
        (known & ~found, Detection.MISSED),
        (found & ~known, Detection.FALSE),
        (truth == ignore_index, Detection.IGNORED),
    )


def duels(
    first: NDArray[np.integer], second: NDArray[np.integer], truth: NDArray[np.integer], ignore_index: int
) -> Codes:
    """`Duel` of each pixel (H, W), from class ids."""
    one, other = first == truth, second == truth
    return _coded(
        Duel,
        (~one & ~other, Duel.WRONG),
        (one & ~other, Duel.FIRST),
        (other & ~one, Duel.SECOND),
        (truth == ignore_index, Duel.IGNORED),
    )


def agreements(first: NDArray[np.integer], second: NDArray[np.integer]) -> Codes:
    """`Agreement` of each pixel (H, W), from class ids."""
    return _coded(Agreement, (first != second, Agreement.OTHER))


def _coded(kind: type[Kind], *places: tuple[NDArray[np.bool_], Kind]) -> Codes:
    """The first member of `kind` everywhere, but the given ones where their masks (H, W) are; later ones win."""
    codes = np.zeros(places[0][0].shape, np.uint8)
    for mask, member in places:
        codes[mask] = list(kind).index(member)
    return codes


def painted(image: Picture, codes: Codes, kind: type[Kind]) -> Picture:
    """The colours of codes (H, W), darkened by the picture (H, W, 3), so that one sees what lies there."""
    colors = np.array([member.color for member in kind], np.uint8)
    out = np.empty_like(image)
    for y in range(0, len(image), BAND):
        rows = slice(y, y + BAND)
        light = 0.5 + 0.5 * image[rows].mean(-1, keepdims=True) / 255
        out[rows] = (colors[codes[rows]] * light).astype(np.uint8)
    return out


def share(codes: Codes, kind: Kind) -> float:
    """Share of a code among the pixels of a map that have a label, 0…1; NaN where none has."""
    table = list(type(kind))
    counts = {member: int((codes == code).sum()) for code, member in enumerate(table)}
    counted = sum(count for member, count in counts.items() if member.name != "IGNORED")
    return counts[kind] / counted if counted else float("nan")
