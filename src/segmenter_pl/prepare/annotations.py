"""What COCO's two JSON formats have in common: pictures and categories."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmenter_pl.prepare.importing import Color, Size, escapes, label_values

Document = dict[str, Any]
LISTS = ("images", "annotations", "categories")
BACKGROUND = "background"


@dataclass(frozen=True)
class Part:
    """A split: its JSON and the folder below which its pictures lie."""

    file: Path
    pictures: Path


@dataclass(frozen=True)
class Categories:
    """The label value of each category id, and the rows value, name, colour of the class table."""

    values: dict[int, int]
    rows: list[tuple[int, str, Color | None]]


def read_document(path: Path) -> Document:
    """Read a JSON with the lists images, annotations and categories.

    Raises: FileNotFoundError; ValueError for another content.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the JSON of the annotations")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): export or download it again") from error
    if lack := [name for name in LISTS if not isinstance(document, dict) or not isinstance(document.get(name), list)]:
        raise ValueError(f"{path} has no list {', '.join(lack)}: COCO's files hold images, annotations and categories")
    return document


def sound_records(
    document: Document, kind: str, fields: Mapping[str, Any], path: Path, problems: list[str]
) -> list[dict[str, Any]]:
    """The records of a list that have all fields with the right types; the others become problems."""
    sound = []
    for number, record in enumerate(document[kind], 1):
        entries = record if isinstance(record, dict) else {}
        if wrong := [name for name, types in fields.items() if not isinstance(entries.get(name), types)]:
            problems.append(f"{path}, {kind} number {number}: {', '.join(wrong)} missing, or of a wrong type")
        else:
            sound.append(record)
    return sound


def read_categories(documents: Mapping[Path, Document], background: bool, problems: list[str]) -> Categories:
    """Number the categories of all files 1, 2, 3, … in the order of their ids (without 255).

    With `background`, 0 is the class of that name; a category that is called so is no further class.
    """
    named: dict[int, tuple[str, Color | None]] = {}
    for path, document in documents.items():
        for record in sound_records(document, "categories", {"id": int, "name": str}, path, problems):
            id_, name = record["id"], record["name"].strip()
            if id_ in named and named[id_][0] != name:
                problems.append(f"{path}, category {id_}: called {named[id_][0]!r} before and {name!r} here")
            named.setdefault(id_, (name, _color(record)))
    names = [name for name, _ in named.values()]
    if twice := sorted({name for name in names if names.count(name) > 1 or not name}):
        problems.append(f"category names must be there, and each once: {', '.join(map(repr, twice))}")
    if not named:
        problems.append(f"{', '.join(map(str, documents))}: no categories")
    ground = [id_ for id_, (name, _) in named.items() if background and name.lower() == BACKGROUND]
    others = sorted(named.keys() - set(ground))
    values = dict(zip(others, label_values(len(others)), strict=True)) | dict.fromkeys(ground, 0)
    rows = [(values[id_], *named[id_]) for id_ in others]
    return Categories(values, [(0, BACKGROUND, (0, 0, 0)), *rows] if background else rows)


def _color(record: Mapping[str, Any]) -> Color | None:
    color = record.get("color")
    if isinstance(color, list) and len(color) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in color):
        return color[0], color[1], color[2]
    return None


def read_images(document: Document, path: Path, problems: list[str]) -> dict[int | str, tuple[str, Size | None]]:
    """The file name and the size, if it is told, of each picture by id. Names that lead elsewhere are problems."""
    images: dict[int | str, tuple[str, Size | None]] = {}
    for record in sound_records(document, "images", {"id": (int, str), "file_name": str}, path, problems):
        id_, name = record["id"], record["file_name"]
        width, height = record.get("width"), record.get("height")
        if id_ in images:
            problems.append(f"{path}, image {id_}: this id was there before, for {images[id_][0]}")
        elif escapes(name):
            problems.append(f"{path}, image {id_}: file_name {name!r} leads out of the folder of the pictures")
        elif width is height is None:
            images[id_] = (name, None)
        elif isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            images[id_] = (name, (width, height))
        else:
            problems.append(f"{path}, image {id_}: width {width} and height {height} are no size")
    if not document["images"]:
        problems.append(f"{path}: no images")
    return images
