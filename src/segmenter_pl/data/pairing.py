"""Data modules over pictures and label files that belong together by name."""

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from segmenter_pl.data.datamodule import SegmentationDataModule
from segmenter_pl.data.pairs import PairDataset


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

    def alone(self) -> list[tuple[Path, str]]:
        """Every file without a partner, and what it lacks: "label" or "picture"."""
        if self.labels is None:
            return []
        sides = ((self.pictures, self.labels, "label"), (self.labels, self.pictures, "picture"))
        return [(have[name], kind) for have, lack, kind in sides for name in sorted(have.keys() - lack.keys())]


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

    def dataset(self, split: str) -> PairDataset:
        """The pairs of a split, sorted by name.

        Raises: FileNotFoundError for a split without pictures, or a file without its partner.
        """
        files = self.files(split)
        if not files.pictures:
            raise FileNotFoundError(f"no pictures of split={split} in dataset.root={self.root}; {self.layout}")
        if alone := files.alone():
            path, kind = alone[0]
            raise FileNotFoundError(f"{len(alone)} files without a {kind}, the first is {path}; {self.layout}")
        names = sorted(files.pictures)
        labels = None if files.labels is None else [files.labels[name] for name in names]
        pictures = [files.pictures[name] for name in names]
        return PairDataset(pictures, labels, self.classes, files.table, self.source)


def by_name(folder: Path, suffixes: Collection[str], ending: str = "") -> dict[str, Path]:
    """Files at any depth of a folder by their path in it, without `ending` and suffix; empty where there is no folder.

    Args:
        suffixes: in lower case; capitals match too.
        ending: what their stems must end with.

    Raises: ValueError for two files of one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        hidden = path.name.startswith(".")  # macOS leaves "._name" files
        if path.suffix.lower() in suffixes and path.stem.endswith(ending) and not hidden:
            name = path.relative_to(folder).with_suffix("").as_posix().removesuffix(ending).rstrip("/")
            if name in found:
                raise ValueError(f"{found[name]} and {path} would share one label: keep one, or rename one")
            found[name] = path
    return found
