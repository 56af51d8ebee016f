"""What the published datasets have in common: a folder in their official layout, and split sizes that are known."""

import shlex
from abc import abstractmethod
from collections.abc import Collection, Mapping
from importlib.resources import files as packaged
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_warn

from segmenter_pl.data.classes import label_table, read_classes
from segmenter_pl.data.pairing import Files, PairsDataModule
from segmenter_pl.data.pairs import PairDataset


class PublishedDataModule(PairsDataModule):
    """A dataset that others have made, with the class table `data/classes/<name>.csv`.

    Args:
        root: the dataset's folder, or the one of `homes` in it.
        train_split: what is trained on: "train", or "trainval" for both parts where the test part is a server's.
        settings: of `SegmentationDataModule`.

    Attributes:
        dataset_name: as in `dataset=NAME` and `segmenter prepare NAME`.
        homes: folders below `root` that its archives unpack to. markers: folders that must be there.
        sizes: published numbers of pictures by split.
    """

    dataset_name: ClassVar[str]
    homes: ClassVar[Collection[str]] = ()
    markers: ClassVar[Collection[str]]
    sizes: ClassVar[Mapping[str, tuple[int, ...]]]

    def __init__(
        self, root: str | Path, *, train_split: str = "train", ignored: Collection[int] = (), **settings: Any
    ) -> None:
        super().__init__(**settings)
        if train_split not in ("train", "trainval"):
            raise ValueError(f"dataset.train_split={train_split}: choose train or trainval")
        self.root, self.train_split = self._home(Path(root)), train_split
        classes_file = Path(str(packaged("segmenter_pl.data.classes") / f"{self.dataset_name}.csv"))
        self.ids, self.classes = read_classes(classes_file, ignored)
        self.table = label_table(self.ids, self.classes, ignored, {})
        self.source = f"the labels of {self.dataset_name}, so they are of another dataset, or changed"

    def _home(self, root: Path) -> Path:
        for home in (root, *(root / part for part in self.homes)):
            if all((home / marker).is_dir() for marker in self.markers):
                return home
        raise FileNotFoundError(
            f"dataset.root={root} does not hold {self.dataset_name}. This command gets it:\n\n"
            f"    segmenter prepare {self.dataset_name} --root {shlex.quote(str(root))}\n\n"
            f"If you have it elsewhere, set dataset.root=PATH; {self.layout}"
        )

    @abstractmethod
    def part(self, split: str) -> Files:
        """The files of one official part."""

    def files(self, split: str) -> Files:
        if split not in self.sizes:
            raise ValueError(f"split={split}: {self.dataset_name} has the splits {', '.join(self.sizes)}")
        if split != "train" or self.train_split == "train":
            return self.part(split)
        train, val = self.part("train"), self.part("val")
        return Files(train.pictures | val.pictures, (train.labels or {}) | (val.labels or {}), train.table)

    def dataset(self, split: str) -> PairDataset:
        """As `PairsDataModule.dataset`; warns of a number of pictures other than the published one."""
        dataset = super().dataset(split)
        joined = split == "train" and self.train_split == "trainval"
        if not joined and (difference := unpublished(self.sizes, split, len(dataset))):
            message = f"{self.dataset_name}, {difference} in {self.root}: results will not be comparable"
            rank_zero_warn(message, category=UserWarning)
        return dataset


def unpublished(sizes: Mapping[str, tuple[int, ...]], split: str, number: int) -> str:
    """How the number of a split's pictures differs from the published ones, in words; "" where it does not."""
    known = sizes.get(split, ())
    if not known or number in known:
        return ""
    return f"{split}: {number} pictures, published are {' or '.join(map(str, known))} ({number - known[0]:+d})"
