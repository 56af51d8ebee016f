"""What shows only when all pairs are known: copies, classes that are missing, numbers of pictures."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from segmenter_pl.checking.findings import Finding
from segmenter_pl.checking.tally import USUAL_KIND, Tally
from segmenter_pl.data.classes import Classes
from segmenter_pl.data.pairing import PairsDataModule
from segmenter_pl.data.published import PublishedDataModule, unpublished


def compared(datamodule: PairsDataModule, tallies: Mapping[str, Tally]) -> Iterator[Finding]:
    """Findings about several files, several splits, or the classes."""
    yield from _copies(tallies)
    yield from _shared_files(tallies)
    if isinstance(datamodule, PublishedDataModule):
        yield from _counts(datamodule, tallies)
    for split, tally in tallies.items():
        if others := {kind: n for kind, n in tally.kinds.items() if kind != USUAL_KIND}:
            yield Finding("picture kind", split, None, ", ".join(f"{n} of mode {kind}" for kind, n in others.items()))
    yield from _absent(datamodule.classes, tallies)
    yield from _colours(datamodule.classes)


def _copies(tallies: Mapping[str, Tally]) -> Iterator[Finding]:
    """The first split that holds a picture owns it: in the order train, val, others."""
    places: dict[bytes, list[tuple[str, Path]]] = defaultdict(list)
    for split, tally in tallies.items():
        for digest, paths in tally.copies.items():
            places[digest] += [(split, path) for path in paths]
    for (owner, first), *others in places.values():
        for split, path in others:
            if path != first:
                kind = "repeated" if split == owner else "duplicate"
                yield Finding(kind, split, path, f"the same pixels as {first} of {owner}")


def _shared_files(tallies: Mapping[str, Tally]) -> Iterator[Finding]:
    """One path in two splits is what the settings ask for, as train_split=trainval does."""
    paths = {split: {path for some in tally.copies.values() for path in some} for split, tally in tallies.items()}
    for one, other in combinations(paths, 2):
        if number := len(paths[one] & paths[other]):
            yield Finding("same file", other, None, f"{number} of its pictures are {one} files too, by the settings")


def _counts(datamodule: PublishedDataModule, tallies: Mapping[str, Tally]) -> Iterator[Finding]:
    for split, tally in tallies.items():
        joined = split == "train" and datamodule.train_split == "trainval"
        if not joined and (difference := unpublished(datamodule.sizes, split, tally.pictures)):
            yield Finding("count", split, None, difference.removeprefix(f"{split}: "))


def _absent(classes: Classes, tallies: Mapping[str, Tally]) -> Iterator[Finding]:
    """Classes without a pixel in train, first those that another split holds: those cannot be learned."""
    train = tallies.get("train")
    if train is None or not train.holding.any():
        return
    elsewhere: list[Finding] = []
    nowhere: list[Finding] = []
    for k in np.flatnonzero(train.holding == 0):
        held = [split for split, tally in tallies.items() if tally.holding[k]]
        text = f"{classes.names[k]}, but {' and '.join(held)} does" if held else classes.names[k]
        (elsewhere if held else nowhere).append(Finding("never in train", "", None, text))
    yield from elsewhere + nowhere


def _colours(classes: Classes) -> Iterator[Finding]:
    names: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for name, color in zip(classes.names, classes.palette, strict=True):
        names[color].append(name)
    for color, several in names.items():
        if len(several) > 1:
            yield Finding("colours", "", None, f"{color} stands for {', '.join(several)}")
