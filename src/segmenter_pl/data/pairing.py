"""Data modules over pictures and label files that belong together by name."""

import hashlib
import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segmenter_pl.data.datamodule import SegmentationDataModule
from segmenter_pl.data.pairs import PairDataset

SIZED = 64  # files of a split whose sizes tell data apart; to ask for all would take long on a network drive


class Named(dict[str, Path]):
    """Files by the name that a picture shares with its label.

    Attributes:
        doubles: (first, second) where a second file has the name of a first; the second is not in the dictionary.
    """

    def __init__(self, paths: Mapping[str, Path] | None = None, doubles: Sequence[tuple[Path, Path]] = ()) -> None:
        super().__init__(paths or {})
        self.doubles = list(doubles)

    def __or__(self, other: Mapping[str, Path]) -> "Named":  # type: ignore[override]
        return Named({**self, **other}, [*self.doubles, *getattr(other, "doubles", ())])


@dataclass(frozen=True)
class Files:
    """What a split holds on disk.

    Attributes:
        pictures, labels: paths by the name that a picture shares with its label; `labels` None: there are none.
        table: the train id of every raw label value, as `PairDataset`.
    """

    pictures: dict[str, Path]
    labels: dict[str, Path] | None
    table: np.ndarray

    def doubles(self) -> list[tuple[Path, Path]]:
        """(first, second) for every second file of a name; see `Named`."""
        return [pair for side in (self.pictures, self.labels) for pair in getattr(side, "doubles", ())]

    def alone(self) -> list[tuple[Path, str]]:
        """Every file without a partner, and what it lacks: "label" or "picture"."""
        if self.labels is None:
            return []
        sides = ((self.pictures, self.labels, "label"), (self.labels, self.pictures, "picture"))
        return [(have[name], kind) for have, lack, kind in sides for name in sorted(have.keys() - lack.keys())]

    def require_partners(self, layout: str) -> None:
        """Raise FileNotFoundError for files without a partner; it ends with `layout`."""
        if alone := self.alone():
            first, kind = alone[0]
            number = sum(other == kind for _, other in alone)
            raise FileNotFoundError(f"{number} files without a {kind}, the first is {first}; {layout}")


class PairsDataModule(SegmentationDataModule):
    """A subclass lists the files of a split; this makes data sets of them.

    Attributes:
        layout: how the files have to lie, for messages. source: where the label values' meaning comes from, likewise.
    """

    layout: ClassVar[str]
    root: Path
    source: str

    @abstractmethod
    def files(self, split: str) -> Files:
        """All files of "train", "val" or another split, with or without partner.

        Raises: FileNotFoundError for a missing folder; ValueError for a split that the dataset does not have.
        """

    def fingerprint(self) -> dict[str, Any]:
        """A digest of the names of all training and validation files, and the sizes of some, in bytes.

        Raises: as `files`.
        """
        digest, sizes = hashlib.sha256(), []
        for split in ("train", self.eval_split):
            files = self.files(split)
            for side in (files.pictures, files.labels or {}):
                names = sorted(side)
                digest.update("\n".join([split, *names]).encode())
                sizes += [side[name].stat().st_size for name in names[:: -(-len(names) // SIZED) or 1]]
        return {"names": digest.hexdigest()[:16], "sizes": sizes}

    def dataset(self, split: str) -> PairDataset:
        """The pairs of a split, sorted by name.

        Raises: FileNotFoundError for a split without pictures, or a file without its partner; ValueError for two files
            of one name.
        """
        files = self.files(split)
        for first, second in files.doubles():
            raise ValueError(f"{first} and {second} would share one label: keep one, or rename one")
        if not files.pictures:
            raise FileNotFoundError(f"no pictures of split={split} in dataset.root={self.root}; {self.layout}")
        files.require_partners(self.layout)
        names = sorted(files.pictures)
        labels = None if files.labels is None else [files.labels[name] for name in names]
        pictures = [files.pictures[name] for name in names]
        return PairDataset(pictures, labels, self.classes, files.table, self.source)


def by_name(folder: Path, suffixes: Collection[str], ending: str = "") -> Named:
    """Files at any depth of a folder by their path in it, without `ending` and suffix; empty where there is no folder.

    Args:
        suffixes: in lower case; capitals match too.
        ending: what their stems must end with.
    """
    found = Named()
    for path in sorted(_below(folder)):
        hidden = path.name.startswith(".")  # macOS leaves "._name" files
        if path.suffix.lower() in suffixes and path.stem.endswith(ending) and not hidden:
            name = path.relative_to(folder).with_suffix("").as_posix().removesuffix(ending).rstrip("/")
            if name in found:
                found.doubles.append((found[name], path))
            else:
                found[name] = path
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Files at any depth, also through links to folders; every folder once."""
    visited: set[Path] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        if here.resolve() in visited:
            folders.clear()
            continue
        visited.add(here.resolve())
        yield from (here / name for name in names)
