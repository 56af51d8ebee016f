"""Cityscapes (Cordts et al., CVPR 2016), fine annotations: the 19 classes that its benchmark evaluates."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segmenter_pl.data.classes import label_table
from segmenter_pl.data.pairing import Files, by_name
from segmenter_pl.data.published import PublishedDataModule

LABEL_IDS = range(34)  # all that *_labelIds.png may hold


class CityscapesDataModule(PublishedDataModule):
    """Labels are read from *_gtFine_labelIds.png as they come, or from *_gtFine_labelTrainIds.png where only those are.

    split=test is pictures alone: its published labels are blank.
    """

    dataset_name = "cityscapes"
    markers = ("leftImg8bit",)
    sizes: ClassVar = {"train": (2975,), "val": (500,), "test": (1525,)}
    layout = (
        "expected: ROOT/leftImg8bit/{train,val,test}/CITY/*_leftImg8bit.png and "
        "ROOT/gtFine/{train,val}/CITY/*_gtFine_labelIds.png (or *_labelTrainIds.png)"
    )

    def __init__(self, root: str | Path, **settings: Any) -> None:
        super().__init__(root, **settings)
        self.table[[value for value in LABEL_IDS if value not in self.ids]] = self.classes.ignore_index
        self.train_ids = label_table(list(range(len(self.classes))), self.classes, [], {})

    def part(self, split: str) -> Files:
        pictures = by_name(self.root / "leftImg8bit" / split, (".png",), "_leftImg8bit")
        if split == "test":
            return Files(pictures, None, self.table)
        labels, table = self._labels(split)
        return Files(pictures, labels, table)

    def _labels(self, split: str) -> tuple[dict[str, Path], np.ndarray]:
        folder = self.root / "gtFine" / split
        if labels := by_name(folder, (".png",), "_gtFine_labelIds"):
            return labels, self.table
        return by_name(folder, (".png",), "_gtFine_labelTrainIds"), self.train_ids
