"""RGB-T-Glass (Huo et al., TIP 2023): glass in RGB pictures; the thermal ones beside them are not used."""

import os
from pathlib import Path
from typing import Any, ClassVar

from segmenter_pl.data.pairing import Files, by_name
from segmenter_pl.data.pairs import PairDataset
from segmenter_pl.data.published import PublishedDataModule

FOLDERS = {"train": "train", "val": "test"}
NO_GLASS = "noglass"  # in the path of scenes without any


class RGBTGlassDataModule(PublishedDataModule):
    """Masks hold 255 (saved with one bit: 1) for glass and 0 for all else.

    What the dataset calls test is our val: it has masks.
    """

    dataset_name = "rgbt_glass"
    homes = ("RGB-T-Glass", "RGB-T-glass")
    markers = ("train", "test")
    sizes: ClassVar = {"train": (), "val": ()}  # 5551 pairs in all; their split is not published
    without_foreground = NO_GLASS
    layout = "expected: ROOT/{train,test}/SCENE/SAMPLE/rgb.png and mask.png"

    def __init__(self, root: str | Path, **settings: Any) -> None:
        super().__init__(root, **settings)
        self.table[1] = self.table[255]

    def dataset(self, split: str) -> PairDataset:
        """As `PublishedDataModule.dataset`; names hold the scene even where there is but one."""
        dataset = super().dataset(split)
        dataset.base = Path(os.path.commonpath([path.parents[2] for path in dataset.pictures]))
        return dataset

    def part(self, split: str) -> Files:
        folder = self.root / FOLDERS[split]
        return Files(by_name(folder, (".png",), "rgb"), by_name(folder, (".png",), "mask"), self.table)
