"""What an import of own data consists of: pictures, how the label of each comes about, and the table of classes."""

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.data.classes import distinct_colors
from segmenter_pl.prepare.progress import progress

IGNORED = 255  # label value of pixels that never count; no class gets it
SHOWN = 20  # problems that are told in full
Size = tuple[int, int]  # width, height
Color = tuple[int, int, int]
Row = tuple[int, str, Color]  # label value, name, colour
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Pair:
    """A picture and its label.

    Attributes:
        where: the line or record that it comes from, for messages.
        picture: the file. name: its path below images/<split>, "/" between folders.
        label: the values (H, W) for a picture of that size. Raises ValueError for a label that cannot be made.
        size: of the picture as its source has it, None where that does not tell.
        png: a file that holds what `label` gives and can be taken as it is.
    """

    where: str
    picture: Path
    name: str
    label: Callable[[Size], NDArray[np.integer]]
    size: Size | None = None
    png: Path | None = None


@dataclass
class Import:
    """All that is to be written, by split; `problems` forbid it, `notes` are told at the end.

    Attributes:
        table: the text of classes.csv, given the label values that were met and the notes, to which it may add. Raises
            ValueError where no table fits the values.
        palette: colours of the label PNGs by label value, none for grey ones.
    """

    pairs: dict[str, list[Pair]]
    table: Callable[[set[int], list[str]], str]
    palette: Sequence[Color] = ()
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def refuse(problems: Sequence[str], what: str) -> None:
    """Raise ValueError with the first problems, if there are any."""
    if problems:
        more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise ValueError("\n  ".join([f"{what} ({len(problems)} problems):", *problems[:SHOWN], *more]))


def hold_out(found: Import, share: float) -> None:
    """Move a share of the training pairs, drawn by a fixed seed, to the split "val"; at least one stays and one goes.

    Raises: ValueError for fewer than two pictures.
    """
    pairs = sorted(found.pairs["train"], key=lambda pair: pair.name)
    if len(pairs) < 2:
        raise ValueError(f"--val {share}: there are {len(pairs)} pictures, and at least 2 are needed to hold one out")
    count = min(max(round(share * len(pairs)), 1), len(pairs) - 1)
    held = set(np.random.default_rng(0).permutation(len(pairs))[:count].tolist())
    found.pairs["train"] = [pair for i, pair in enumerate(pairs) if i not in held]
    found.pairs["val"] = [pair for i, pair in enumerate(pairs) if i in held]


def escapes(name: str) -> bool:
    """Whether a path of somebody else's file is absolute, climbs with "..", or is none; as Windows reads it too."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return "\0" in name or any(path.anchor or ".." in path.parts or not path.name for path in paths)


def label_values(count: int) -> list[int]:
    """1, 2, 3, … without 255, so that this value means the same however many classes there are."""
    return [value for value in range(1, count + 2) if value != IGNORED][:count]


def label_type(values: Iterable[int]) -> type[np.uint8] | type[np.uint16]:
    """What a label PNG needs for these values."""
    return np.uint8 if max(values, default=0) <= IGNORED else np.uint16


def colored(rows: Sequence[tuple[int, str, Color | None]]) -> list[Row]:
    """Rows of a class table, those without a colour with one of their own."""
    return [
        (value, name, color or other)
        for (value, name, color), other in zip(rows, distinct_colors(len(rows)), strict=True)
    ]


def palette_of(rows: Sequence[Row]) -> list[Color]:
    """The colour of each label value 0…255, black for what is no class.

    All 256, because Pillow writes the last index of a shorter palette for what lies beyond.
    """
    colors = {value: color for value, _, color in rows}
    return [colors.get(value, (0, 0, 0)) for value in range(256)]


def table_text(rows: Sequence[Row], met: Collection[int], notes: list[str]) -> str:
    """classes.csv with all rows; classes without a pixel are noted."""
    if unseen := [name for value, name, _ in rows if value not in met]:
        listed = ", ".join(unseen[:SHOWN]) + (", …" if len(unseen) > SHOWN else "")
        notes.append(f"{len(unseen)} of {len(rows)} classes have no pixel: {listed}")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [("id", "name", "R", "G", "B"), *((value, name, *color) for value, name, color in rows)]
    )
    return text.getvalue()


def in_threads(work: Callable[[T], R], items: Sequence[T], doing: str) -> Iterator[R]:
    """The results in the order of the items, with a progress bar; after a Ctrl-C no further one is begun."""
    pool = ThreadPoolExecutor()
    try:
        with progress(doing, len(items), files=True) as advance:
            for result in pool.map(work, items):
                advance(1)
                yield result
    finally:
        pool.shutdown(cancel_futures=True)
