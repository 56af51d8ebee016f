"""A tree for dataset=folder, written as a whole or not at all."""

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segmenter_pl.files import fresh
from segmenter_pl.locking import sole_owner
from segmenter_pl.prepare.importing import Color, Import, Pair, Size, in_threads, refuse

TEMPORARY = ".preparing"
FOLDERS = ("images", "labels")
TABLE = "classes.csv"  # written last and moved last


def write_tree(found: Import, sizes: Mapping[str, Sequence[Size]], temporary: Path, link: bool) -> None:
    """Write images, labels and classes.csv in `temporary`, then move them to the folder above.

    Args:
        sizes: (width, height) of the pictures, in the order of `found.pairs`.
        link: pictures (and labels that can be taken as they are) become hard links, or symbolic ones to another disk.

    Raises: ValueError for labels that cannot be made; OSError.
    """
    met: set[int] = set()
    problems = []
    for split, pairs in found.pairs.items():
        work = partial(_write_pair, temporary, split, found.palette, link)
        for values, problem in in_threads(work, list(zip(pairs, sizes[split], strict=True)), f"writing {split}"):
            met |= values
            problems += [problem] if problem else []
    refuse(problems, "nothing is imported, because of labels")
    (temporary / TABLE).write_text(found.table(met, found.notes), encoding="utf-8")
    for name in (*FOLDERS, TABLE):
        (temporary / name).rename(temporary.parent / name)


@contextmanager
def empty(root: Path) -> Iterator[Path]:
    """A temporary folder in `root`, which must be new or empty; afterwards it is removed, and so is a new `root`.

    What an interrupted import left in `root` is removed before.

    Raises: ValueError for a root that holds something, or that another process is writing to.
    """
    if root.exists() and not root.is_dir():
        raise ValueError(f"--root {root} is a file: give a folder that is new or empty")
    with sole_owner(root, f"another process is writing to --root {root}: wait for it"):
        try:
            _clear(root)
            if held := sorted(path.name for path in root.iterdir()):
                listed = ", ".join(held[:5]) + (", …" if len(held) > 5 else "")
                raise ValueError(f"--root {root} holds {listed}: give a folder that is new or empty")
            (root / TEMPORARY).mkdir()
            yield root / TEMPORARY
        finally:
            _clear(root)


def _clear(root: Path) -> None:
    """Remove the temporary folder, and what was moved out of it where the class table did not follow."""
    temporary = root / TEMPORARY
    if (temporary / TABLE).exists():  # all was written: what is missing here has been moved
        for name in FOLDERS:
            if not (temporary / name).exists():
                shutil.rmtree(root / name, ignore_errors=True)
        (temporary / TABLE).unlink()  # first of all, so that this, too, may be interrupted
    if temporary.is_dir():
        shutil.rmtree(temporary)


def _write_pair(
    temporary: Path, split: str, palette: Sequence[Color], link: bool, item: tuple[Pair, Size]
) -> tuple[set[int], str]:
    """The label values that were met, and what is wrong with the label."""
    pair, size = item
    try:
        labels = pair.label(size)
    except ValueError as error:
        return set(), f"{pair.where}: {error}"
    target = temporary / "images" / split / pair.name
    _place(pair.picture, target, link)
    target = (temporary / "labels" / split / pair.name).with_suffix(".png")
    if pair.png:
        _place(pair.png, target, link)
    else:
        _save(labels, target, palette)
    return set(np.flatnonzero(np.bincount(labels.ravel())).tolist()), ""


def _place(source: Path, target: Path, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not link:
        shutil.copyfile(source, target)
        return
    source = source.resolve()
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        target.symlink_to(source)  # another disk, or one without hard links


def _save(labels: NDArray[np.integer], target: Path, palette: Sequence[Color]) -> None:
    image = Image.fromarray(labels)
    if palette and labels.dtype == np.uint8:
        image.putpalette([*chain.from_iterable(palette)])
    with fresh(target) as path:  # its errors name the file
        image.save(path)
