"""A table of pairs: a CSV with the header split,picture,label."""

import csv
import os
from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.data.classes import read_classes
from segmenter_pl.data.pairs import LABEL_MODES, read_label
from segmenter_pl.pictures import TooLargeError, opened
from segmenter_pl.prepare.importing import IGNORED, Import, Pair, Size, colored, table_text

HEADER = ("split", "picture", "label")
SPLITS = ("train", "val", "test")


def read_pairs(path: Path, classes: Path | None) -> Import:
    """Read and check the rows; paths are absolute, or relative to the CSV's folder.

    A picture's name below images/<split> is its path below the folder that all pictures of the split share.

    Args:
        classes: the class table, which is copied; None makes one from the label values that are met.

    Raises: FileNotFoundError, ValueError for another kind of file; what is wrong in a row becomes a problem.
    """
    found = Import({}, _made_table)
    known: Collection[int] | None = None
    if classes:
        if not classes.is_file():
            raise FileNotFoundError(f"--classes {classes} is missing: give a CSV with the header id,name,R,G,B")
        ids, _ = read_classes(classes)
        text = classes.read_text(encoding="utf-8-sig")
        known, found.table = {*ids, IGNORED}, lambda met, notes: text
    rows: dict[str, list[tuple[str, Path, Path]]] = {}
    seen: dict[Path, int] = {}
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        if wrong := _fault(row, path.parent):
            found.problems.append(f"{where}: {wrong}")
            continue
        picture, label = (path.parent / row[name].strip() for name in ("picture", "label"))
        if (first := seen.setdefault(picture.resolve(), line)) != line:
            found.problems.append(f"{where}: the picture {picture} is in line {first} too")
            continue
        rows.setdefault(row["split"].strip(), []).append((where, picture, label))
    for split, entries in rows.items():
        base = os.path.commonpath([os.path.abspath(picture.parent) for _, picture, _ in entries])
        for where, picture, label in entries:
            name = Path(os.path.relpath(os.path.abspath(picture), base)).as_posix()
            png = label if _is_png(label) else None
            pair = Pair(where, picture, name, partial(_values, label, known), png=png)
            found.pairs.setdefault(split, []).append(pair)
    if not found.problems:
        found.problems += [f"{path}: no row of split {split}" for split in SPLITS[:2] if split not in rows]
    return found


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise FileNotFoundError(f"--pairs {path} is missing: give a CSV with the header {','.join(HEADER)}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            rows = [(reader.line_num, row) for row in reader]
            header = list(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--pairs {path} is no CSV in UTF-8 ({error}): save it as one") from error
    if not set(HEADER) <= set(header):
        raise ValueError(f"--pairs {path} has the header {','.join(header)!r}; it must be {','.join(HEADER)}")
    return rows


def _fault(row: dict[str, str], folder: Path) -> str:
    """What is wrong with a row by itself, or ""."""
    if row["split"].strip() not in SPLITS:
        return f"the split is {row['split']!r}: use {', '.join(SPLITS)}"
    for name in ("picture", "label"):
        if not row[name].strip() or not (folder / row[name].strip()).is_file():
            return f"the {name} {row[name]!r} is missing: correct the path, relative to {folder} or absolute"
    return _label_fault(folder / row["label"].strip())


def _label_fault(label: Path) -> str:
    try:
        with opened(label) as file:
            kind, mode = file.format, file.mode
    except TooLargeError as error:
        return f"the label {label} {error}"
    except (OSError, SyntaxError) as error:
        return f"the label {label} cannot be read ({error}): make it again"
    if kind == "JPEG":
        return f"the label {label} is a JPEG, which changes values: save PNGs from the original"
    if mode not in LABEL_MODES:
        return f"the label {label} has mode {mode!r}, several numbers per pixel: save one class id per pixel"
    return ""


def _is_png(label: Path) -> bool:
    with opened(label) as file:
        return file.format == "PNG"


def _values(label: Path, known: Collection[int] | None, size: Size) -> NDArray[np.integer]:
    raw = read_label(label)
    if raw.shape[::-1] != size:
        raise ValueError(
            f"the label {label} is {raw.shape[1]}x{raw.shape[0]} and its picture {size[0]}x{size[1]} pixels (EXIF "
            "rotation applied): make it again at the picture's size"
        )
    if raw.min() < 0 or raw.max() > 65535:
        raise ValueError(f"the label {label} holds values from {raw.min()} to {raw.max()}: use 0…65535")
    met = np.flatnonzero(np.bincount(raw.ravel())).tolist()
    if known is not None and (unknown := [value for value in met if value not in known]):
        listed = ", ".join(map(str, unknown[:10]))
        raise ValueError(
            f"the label {label} holds values without a row in --classes: {listed}; add rows (dataset.ignore_value "
            "leaves out classes in training)"
        )
    return raw.astype(np.uint8 if raw.max() <= IGNORED else np.uint16)


def _made_table(met: set[int], notes: list[str]) -> str:
    values = sorted(met - {IGNORED})
    if len(values) < 2 and IGNORED in met:
        raise ValueError(
            f"the labels hold {' and '.join(map(str, sorted(met)))} alone, and {IGNORED} never counts unless a table "
            f"says so: give --classes with the rows {' and '.join(f'{value},NAME' for value in sorted(met))}"
        )
    notes.append("classes.csv calls the classes by their label values, e.g. class 7: put the right names there")
    return table_text(colored([(value, f"class {value}", None) for value in values]), met, notes)
