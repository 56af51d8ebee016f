"""Pascal Context (Mottaghi et al., CVPR 2014): the 59 most frequent of 459 classes, and background."""

import shlex
from pathlib import Path
from typing import Any, ClassVar

from segmenter_pl.data.pairing import Files
from segmenter_pl.data.published import PublishedDataModule


class PascalContextDataModule(PublishedDataModule):
    """Label files hold 0 for background and 1…59 in the order of the 459 ids (not the order of the VOC classes).

    Args:
        classes: 60, where background is a class as in the paper (§4.1), or 59, where it does not count.
    """

    dataset_name = "pascal_context"
    homes = ("VOCdevkit/VOC2010", "VOC2010")
    markers = ("JPEGImages", "SegmentationClassContext")
    # VOC2010's own lists, and those of the converted labels that many implementations use.
    sizes: ClassVar = {"train": (4998, 4996), "val": (5105, 5104)}
    layout = (
        "expected: ROOT/JPEGImages/*.jpg, ROOT/SegmentationClassContext/*.png and "
        "ROOT/ImageSets/SegmentationContext/{train,val}.txt"
    )

    def __init__(self, root: str | Path, *, classes: int = 60, **settings: Any) -> None:
        if classes not in (59, 60):
            raise ValueError(f"dataset.classes={classes}: choose 60 (with background, as the paper) or 59")
        super().__init__(root, ignored=[0] if classes == 59 else [], **settings)

    def part(self, split: str) -> Files:
        """The files that the split's list names: pictures of VOC2010 that are in no list have no labels."""
        pictures, labels = {}, {}
        for name in self.listed(split):
            picture = self.root / "JPEGImages" / f"{name}.jpg"
            label = self.root / "SegmentationClassContext" / f"{name}.png"
            if there := label.is_file():
                labels[name] = label
            if picture.is_file() or not there:  # a name without any file counts as a picture without a label
                pictures[name] = picture
        return Files(pictures, labels, self.table)

    def listed(self, split: str) -> list[str]:
        """The names in ImageSets/SegmentationContext/<split>.txt. Raises: FileNotFoundError without it."""
        path = self.root / "ImageSets" / "SegmentationContext" / f"{split}.txt"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: `segmenter prepare pascal_context --root {shlex.quote(str(self.root))}` makes it; "
                + self.layout
            )
        return path.read_text().split()
