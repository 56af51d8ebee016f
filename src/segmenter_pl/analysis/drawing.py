"""What all plots share: figures of matplotlib (the optional extra `plots`), colours that everybody can tell apart."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmenter_pl.files import fresh

# Okabe and Ito's palette without its yellow, which is faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SUFFIXES = (".png", ".pdf", ".svg", ".jpg")
MOST_SERIES = len(COLORS) * len(STYLES)
SMALL = 8  # font of legends, points
LINE = 1.35 * SMALL / 72  # of a legend, inches
LETTER = 0.56 * SMALL / 72  # its usual width, inches
HANDLE = 0.5  # before a label, inches
LINES = 3  # of a label, where there are many


def look(number: int) -> dict[str, Any]:
    """Colour, line and marker of the series with that number: no two of 28 are alike, and grey prints tell seven."""
    which, again = number % len(COLORS), number // len(COLORS)
    return {"color": COLORS[which], "linestyle": STYLES[again % len(STYLES)], "marker": MARKERS[which]}


def require_possible(path: Path) -> None:
    """Raises ValueError where matplotlib is missing, or the name's ending is none of `SUFFIXES`."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--out {path}: give the name of a picture, ending in {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError('plots need matplotlib, which is not installed: pip install "segmenter-pl[plots]"') from error


@contextmanager
def drawn(path: Path, width: float = 7.0, height: float = 4.2, *, panels: int = 1) -> Iterator[Sequence[Any]]:
    """The axes to draw into; the picture is written when the block ends well.

    Args:
        width, height: inches. panels: side by side.
    Raises: ValueError as `require_possible`.
    """
    require_possible(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        yield list(axes)
        with fresh(path) as temporary:
            figure.savefig(temporary, dpi=150)


@dataclass(frozen=True)
class Legend:
    """Labels as they fit: wrapped below the axes, or within them where they are few and short.

    Attributes:
        labels: with line breaks; `number  label` where colours repeat. columns: of the legend; 0 within the axes.
        height: inches to add to the figure.
    """

    labels: list[str]
    columns: int
    height: float

    @classmethod
    def of(cls, labels: Sequence[str], width: float = 7.0) -> "Legend":
        """For a figure of `width` inches. Raises ValueError for more series than can be told apart."""
        if len(labels) > MOST_SERIES:
            raise ValueError(
                f"{len(labels)} series cannot be told apart in one picture, {MOST_SERIES} at most: give fewer runs, or "
                "the folder of one sweep"
            )
        marks = [f"{mark}  " if mark else "" for mark in marks_of(len(labels))]
        longest = max(len(label) for label in labels)
        if len(labels) <= 4 and longest <= 40:
            return cls(list(labels), 0, 0.0)
        columns = 2 if len(labels) > 4 and longest <= _letters(width / 2) else 1
        letters, most = _letters(width / columns), LINES if marks[0] else None  # numbers keep labels apart
        wrapped = [
            textwrap.fill(f"{mark}{label}", letters, max_lines=most, placeholder=" …")
            for mark, label in zip(marks, labels, strict=True)
        ]
        lines = [1 + label.count("\n") for label in wrapped]
        rows = -(-len(lines) // columns)
        tallest = max(sum(lines[i * rows : (i + 1) * rows]) for i in range(columns))
        return cls(wrapped, columns, LINE * (tallest + 0.35 * rows) + 0.15)

    def draw(self, axes: Sequence[Any]) -> None:
        """Below all axes of a figure, or within each."""
        if not self.columns:
            for one in axes:
                one.legend(fontsize=9)
            return
        found = {label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
        handles = [found[label] for label in self.labels]
        axes[0].figure.legend(
            handles, self.labels, loc="outside lower center", ncols=self.columns, fontsize=SMALL, frameon=False,
            alignment="left", labelspacing=0.35,
        )  # fmt: skip


def marks_of(count: int) -> list[str]:
    """A number for each series where there are more than colours; else nothing."""
    return [str(i + 1) if count > len(COLORS) else "" for i in range(count)]


def _letters(width: float) -> int:
    return int((width - HANDLE) / LETTER)


def faint_grid(axes: Any, which: str = "both") -> None:
    axes.grid(axis=which, color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)


def plain_log_ticks(axes: Any) -> None:
    """1, 2, 5, 10 … along a logarithmic x-axis; within a decade, round numbers at equal distances."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

    low, high = axes.get_xlim()
    wide = high / low > 10
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if not wide:
        axes.xaxis.set_minor_locator(NullLocator())


def thousands(axes: Any) -> None:
    """`20k` along the x-axis."""
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")


def spread_out(positions: Sequence[float], gap: float) -> list[float]:
    """The positions, moved apart where two are closer than `gap`: for labels beside the ends of lines.

    They stay between 0 and 1 where there is room for all of them.
    """
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
    if len(order) * gap < 1:
        for place, i in enumerate(order):
            moved[i] = max(moved[i], place * gap)
        for place, i in enumerate(reversed(order)):
            moved[i] = min(moved[i], 1 - place * gap)
    return moved


def _low(block: Sequence[int], positions: Sequence[float], gap: float) -> float:
    """Where a block of labels, `gap` apart and centred on what they belong to, begins."""
    return sum(positions[i] for i in block) / len(block) - (len(block) - 1) * gap / 2


def _high(block: Sequence[int], positions: Sequence[float], gap: float) -> float:
    return _low(block, positions, gap) + (len(block) - 1) * gap
