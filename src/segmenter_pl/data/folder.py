"""Your own pictures: images/<split>/… and labels/<split>/… below one folder, and a classes.csv."""

import colorsys
import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segmenter_pl.data.datamodule import SegmentationDataModule
from segmenter_pl.data.dataset import Classes, PairDataset

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".webp")
LAYOUT = "expected: ROOT/images/<split>/**/*.jpg (or png, bmp, tif, webp) and ROOT/labels/<split>/**/*.png, same stems"


def list_pairs(root: str | Path, split: str) -> list[tuple[Path, Path]]:
    """Pictures and labels of a split with the same path below images/<split> and labels/<split>, sorted by that path.

    Raises: FileNotFoundError for a missing folder, a folder without pictures, or a file without its partner;
        ValueError for two pictures that differ in the suffix only.
    """
    pictures = _by_stem(Path(root, "images", split), SUFFIXES)
    labels = _by_stem(Path(root, "labels", split), (".png",))
    if not pictures:
        raise FileNotFoundError(f"no pictures in {Path(root, 'images', split)}; {LAYOUT}")
    for have, lack, kind in ((pictures, labels, "label"), (labels, pictures, "picture")):
        if alone := sorted(have.keys() - lack.keys()):
            raise FileNotFoundError(f"{len(alone)} files without a {kind}, the first is {have[alone[0]]}; {LAYOUT}")
    return [(pictures[stem], labels[stem]) for stem in sorted(pictures)]


def list_pictures(root: str | Path, split: str) -> list[Path]:
    """Pictures of a split, sorted. Raises: FileNotFoundError for a missing folder, or one without pictures."""
    pictures = _by_stem(Path(root, "images", split), SUFFIXES)
    if not pictures:
        raise FileNotFoundError(f"no pictures in {Path(root, 'images', split)}; {LAYOUT}")
    return [pictures[stem] for stem in sorted(pictures)]


def _by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder: set dataset.root, dataset.train_split, dataset.val_split or (eval.py) split; "
            + LAYOUT
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):  # macOS leaves "._name" files
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in found:
                raise ValueError(f"{found[stem]} and {path} would share one label: keep one, or rename one")
            found[stem] = path
    return found


def read_classes(path: str | Path, ignore_values: Collection[int] = ()) -> tuple[list[int], Classes]:
    """Read a CSV with the header id,name,R,G,B; the three colour columns may be absent.

    Returns: the label ids in ascending order (position = train id), without `ignore_values`, and their classes.
    Raises: FileNotFoundError; ValueError for a wrong header, no rows, a number that is none, duplicate ids or names.
    """
    table = _read_rows(Path(path))
    if not {row[0] for row in table} - {*ignore_values}:
        raise ValueError(f"{path} has 0 class names beside what is ignored: add one row id,name per class")
    ids = [row[0] for row in table]
    if duplicates := sorted({value for value in ids if ids.count(value) > 1}):
        raise ValueError(f"{path} has ids more than once: {duplicates}; give every class its own id")
    if outside := [value for value in ids if not 0 <= value <= 65535]:
        raise ValueError(f"{path} has ids that no label can hold: {outside}; use 0…65535")
    kept = sorted(row for row in table if row[0] not in ignore_values)
    colors = [color or other for (_, _, color), other in zip(kept, distinct_colors(len(kept)), strict=True)]
    ignore_index = 255 if len(kept) <= 255 else int(np.iinfo(np.int16).max)  # above 255 classes masks are int16
    try:
        classes = Classes(tuple(name for _, name, _ in kept), tuple(colors), ignore_index)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return [row[0] for row in kept], classes


def _read_rows(path: Path) -> list[tuple[int, str, tuple[int, int, int] | None]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"dataset.classes_file={path} is missing: write a CSV with the header id,name,R,G,B (colours optional), "
            "or set dataset.classes_file=PATH"
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.DictReader(file)
            rows, header = list(reader), list(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV in UTF-8 ({error}): save it as one") from error
    if not {"id", "name"} <= set(header):
        raise ValueError(f"{path} has the header {','.join(header)!r}; it must be id,name or id,name,R,G,B")
    columns = [name for name in ("R", "G", "B") if {"R", "G", "B"} <= set(header)]
    table = []
    for row in rows:
        try:
            id_, *color = (int(row[name]) for name in ("id", *columns))
            table.append((id_, row["name"].strip(), (color[0], color[1], color[2]) if color else None))
        except (AttributeError, TypeError, ValueError) as error:
            met = ",".join(str(row[name] or "") for name in header)
            raise ValueError(
                f"{path}: every row needs a name, and whole numbers as id and colours; correct the row {met} ({error})"
            ) from error
    return table


def distinct_colors(count: int) -> list[tuple[int, int, int]]:
    """RGB colours (0…255) by steps of the golden ratio around the hue circle, at three saturations and values."""
    colors = []
    for k in range(count):
        saturation, value = ((0.9, 0.95), (0.55, 0.8), (0.9, 0.6))[k % 3]
        r, g, b = colorsys.hsv_to_rgb(k * 0.61803398875 % 1.0, saturation, value)
        colors.append((round(255 * r), round(255 * g), round(255 * b)))
    return colors


def label_table(
    ids: list[int], classes: Classes, ignore_values: Collection[int], label_map: Mapping[int, int]
) -> np.ndarray:
    """The train id of every raw label value 0…65535: (65536,) int16, -1 where there is none.

    A raw value goes through `label_map` first. Raises ValueError for a target of it that is no id, and for what no
    label can hold.
    """
    for setting, values in (("ignore_value", ignore_values), ("label_map", [*label_map.keys(), *label_map.values()])):
        if wrong := [value for value in values if not isinstance(value, int) or not 0 <= value <= 65535]:
            raise ValueError(f"dataset.{setting} holds {wrong[0]!r}: use label values, whole numbers 0…65535")
    table = np.full(65536, -1, np.int16)
    table[[255, *ignore_values]] = classes.ignore_index
    table[ids] = np.arange(len(ids))
    if astray := {raw: target for raw, target in label_map.items() if table[target] < 0}:
        raise ValueError(f"dataset.label_map={astray} leads to ids that are neither in the classes file nor ignored")
    mapped = table.copy()
    for raw, target in label_map.items():
        mapped[raw] = table[target]
    return mapped


class FolderDataModule(SegmentationDataModule):
    """A folder of pictures and label PNGs; see `list_pairs` and `read_classes` for what must be there.

    Args:
        root: the folder.
        classes_file: default `root`/classes.csv.
        ignore_value: raw label value or values that count neither in the loss nor in the metrics; so does 255, unless
            it is the id of a class.
        label_map: raw label value → id in the classes file (or an ignored value), for values that stand in no row.
        train_split, val_split: folder names below images/ and labels/.
        settings: of `SegmentationDataModule`.
    """

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
        self.splits = {"train": train_split, "val": val_split}

    def dataset(self, split: str) -> PairDataset:
        """The pairs of a split; of one that is neither for training nor validation, the pictures alone will do."""
        source = f"{self.classes_file}: add rows to it, or set dataset.ignore_value or dataset.label_map"
        if split not in self.splits and not (self.root / "labels" / split).is_dir():
            return PairDataset(list_pictures(self.root, split), None, self.classes, self.table, source)
        pictures, labels = zip(*list_pairs(self.root, self.splits.get(split, split)), strict=True)
        return PairDataset(pictures, labels, self.classes, self.table, source)
