"""ADE20K scene parsing (Zhou et al., CVPR 2017; the 2016 challenge): 150 classes, label value 0 is "other"."""

from pathlib import Path
from typing import Any, ClassVar

from segmenter_pl.data.pairing import Files, by_name
from segmenter_pl.data.published import PublishedDataModule

FOLDERS = {"train": "training", "val": "validation"}


class ADE20KDataModule(PublishedDataModule):
    """Labels hold 1…150 for train ids 0…149; 0 does not count (paper, §4.1).

    split=test is the pictures of release_test, which have no labels; it may lie beside ADEChallengeData2016 or in it.
    """

    dataset_name = "ade20k"
    homes = ("ADEChallengeData2016",)
    markers = ("images", "annotations")
    sizes: ClassVar = {"train": (20210,), "val": (2000,), "test": ()}
    layout = "expected: ROOT/images/{training,validation}/*.jpg and ROOT/annotations/{training,validation}/*.png"

    def __init__(self, root: str | Path, **settings: Any) -> None:
        super().__init__(root, ignored=[0], **settings)

    def part(self, split: str) -> Files:
        if split == "test":
            places = (self.root / "release_test", self.root.parent / "release_test")
            folder = next((place for place in places if place.is_dir()), places[1]) / "testing"
            return Files(by_name(folder, (".jpg",)), None, self.table)
        pictures = by_name(self.root / "images" / FOLDERS[split], (".jpg",))
        labels = by_name(self.root / "annotations" / FOLDERS[split], (".png",))
        return Files(pictures, labels, self.table)
