"""Class tables: what a dataset's label values mean. The CSV files beside this one are those of published datasets."""

import colorsys
import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset: train id k has name `names[k]` and colour `palette[k]` (RGB, 0…255).

    Raises ValueError for an empty table, unequal lengths, duplicate names, or an ignore index that is a train id.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.palette):
            raise ValueError(
                f"{len(self.names)} class names and {len(self.palette)} colours: give one colour per class"
            )
        if duplicates := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(
                f"class names occur more than once: {', '.join(duplicates)}; give every class its own name"
            )
        if wrong := [color for color in self.palette if len(color) != 3 or not all(0 <= c <= 255 for c in color)]:
            raise ValueError(f"colour {wrong[0]} is not three numbers 0…255: correct it")
        highest = np.iinfo(self.mask_dtype).max
        if not len(self.names) <= self.ignore_index <= highest:
            raise ValueError(
                f"ignore_index={self.ignore_index} must lie in {len(self.names)}…{highest}: beyond the train ids, and "
                "within what a mask can hold"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def mask_dtype(self) -> type[np.uint8] | type[np.int16]:
        """uint8 up to 255 classes (255 stays free for ignored pixels), int16 above."""
        return np.uint8 if len(self) <= 255 else np.int16


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
