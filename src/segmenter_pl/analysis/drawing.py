"""What all plots share: figures of matplotlib (the optional extra `plots`), colours that everybody can tell apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segmenter_pl.files import fresh

# Okabe and Ito's palette without its yellow, which is faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SUFFIXES = (".png", ".pdf", ".svg", ".jpg")


def look(number: int) -> dict[str, Any]:
    """Colour, line and marker of the series with that number: no two of 28 are alike, and grey prints tell seven."""
    which, again = number % len(COLORS), number // len(COLORS)
    return {"color": COLORS[which], "linestyle": STYLES[again % len(STYLES)], "marker": MARKERS[which]}


@contextmanager
def drawn(path: Path, width: float = 7.0, height: float = 4.2, *, panels: int = 1) -> Iterator[Sequence[Any]]:
    """The axes to draw into; the picture is written when the block ends well.

    Args:
        width, height: inches. panels: side by side.
    Raises:
        ValueError: matplotlib is missing, or the name's ending is none of `SUFFIXES`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out {path}: give the name of a picture, ending in {', '.join(SUFFIXES)}")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ValueError('plots need matplotlib, which is not installed: pip install "segmenter-pl[plots]"') from error
    with rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        yield list(axes)
        with fresh(path) as temporary:
            figure.savefig(temporary, dpi=150)


def faint_grid(axes: Any, which: str = "both") -> None:
    axes.grid(axis=which, color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)


def spread_out(positions: Sequence[float], gap: float) -> list[float]:
    """The positions, moved apart where two are closer than `gap`: for labels beside the ends of lines."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    blocks: list[list[int]] = []
    for i in order:
        blocks.append([i])
        while len(blocks) > 1 and _low(blocks[-1], positions, gap) - _high(blocks[-2], positions, gap) < gap:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    moved = list(positions)
    for block in blocks:
        for place, i in enumerate(block):
            moved[i] = _low(block, positions, gap) + place * gap
    return moved


def _low(block: Sequence[int], positions: Sequence[float], gap: float) -> float:
    """Where a block of labels, `gap` apart and centred on what they belong to, begins."""
    return sum(positions[i] for i in block) / len(block) - (len(block) - 1) * gap / 2


def _high(block: Sequence[int], positions: Sequence[float], gap: float) -> float:
    return _low(block, positions, gap) + (len(block) - 1) * gap
