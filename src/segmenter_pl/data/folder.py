"""Your own pictures: images/<split>/… and labels/<split>/… below one folder, and a classes.csv."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from segmenter_pl.data.classes import label_table, read_classes
from segmenter_pl.data.pairing import Files, PairsDataModule, by_name
from segmenter_pl.data.pairs import SUFFIXES

LAYOUT = "expected: ROOT/images/<split>/**/*.jpg (or png, bmp, tif, webp) and ROOT/labels/<split>/**/*.png, same stems"


class FolderDataModule(PairsDataModule):
    """A folder of pictures and label PNGs; see LAYOUT and `read_classes` for what must be there.

    Args:
        root: the folder.
        classes_file: default `root`/classes.csv.
        ignore_value: raw label value or values that count neither in the loss nor in the metrics; so does 255, unless
            it is the id of a class.
        label_map: raw label value → id in the classes file (or an ignored value), for values that stand in no row.
        train_split, val_split: folder names below images/ and labels/.
        settings: of `SegmentationDataModule`.
    """

    layout = LAYOUT

    def __init__(
        self,
        root: str | Path,
        *,
        classes_file: str | Path | None = None,
        ignore_value: int | Collection[int] | None = None,
        label_map: Mapping[int, int] | None = None,
        train_split: str = "train",
        val_split: str = "val",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"dataset.root={root} is not a folder: set dataset.root=PATH; {LAYOUT}")
        ignore_values = [ignore_value] if isinstance(ignore_value, int) else list(ignore_value or ())
        self.classes_file = Path(classes_file or self.root / "classes.csv")
        ids, self.classes = read_classes(self.classes_file, ignore_values)
        self.table = label_table(ids, self.classes, ignore_values, label_map or {})
        self.source = f"{self.classes_file}: add rows to it, or set dataset.ignore_value or dataset.label_map"
        self.splits = {"train": train_split, "val": val_split}

    def files(self, split: str) -> Files:
        """The files of a split; of one that is neither for training nor validation, the pictures alone will do."""
        folder = self.splits.get(split, split)
        pictures, labels = self.root / "images" / folder, self.root / "labels" / folder
        optional = split not in self.splits and not labels.is_dir()
        if missing := [side for side in (pictures, labels) if not side.is_dir() and not (side is labels and optional)]:
            raise FileNotFoundError(
                f"{missing[0]} is not a folder: set dataset.root, dataset.train_split, dataset.val_split or (eval.py) "
                f"split; {LAYOUT}"
            )
        return Files(by_name(pictures, SUFFIXES), None if optional else by_name(labels, (".png",)), self.table)
