"""COCO's panoptic format: a JSON, and beside it PNGs whose colours number the segments."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.pictures import TooLargeError, opened
from segmenter_pl.prepare.annotations import Part, read_categories, read_document, read_images, sound_records
from segmenter_pl.prepare.importing import (
    IGNORED,
    Import,
    Pair,
    Size,
    colored,
    escapes,
    label_type,
    palette_of,
    table_text,
)

FIELDS = {"image_id": (int, str), "file_name": str, "segments_info": list}


def read_panoptic(parts: Mapping[str, Part], crowd_counts: bool) -> Import:
    """Read and check the JSON of every split; the PNGs lie in the folder that is called as the JSON without its suffix.

    Args:
        crowd_counts: segments with iscrowd=1 belong to their category; else they are ignored.

    Raises: FileNotFoundError, ValueError for a file that is no such JSON; what is wrong in it becomes a problem.
    """
    problems: list[str] = []
    documents = {part.file: read_document(part.file) for part in parts.values()}
    categories = read_categories(documents, False, problems)
    rows = colored(categories.rows)
    found = Import({}, partial(table_text, rows), palette_of(rows), problems)
    dtype = label_type(categories.values.values())
    for split, part in parts.items():
        path, document = part.file, documents[part.file]
        images = read_images(document, path, problems)
        pairs: dict[int | str, Pair] = {}
        crowds = 0
        for record in sound_records(document, "annotations", FIELDS, path, problems):
            id_ = record["image_id"]
            where = f"{path}, annotation of image {id_}"
            try:
                if id_ not in images or id_ in pairs:
                    raise ValueError("it is there twice" if id_ in pairs else "there is no such image")
                name, size = images[id_]
                png, segments = _png(path.with_suffix(""), record["file_name"]), record["segments_info"]
                values = _segment_values(segments, categories.values, crowd_counts)
                pairs[id_] = Pair(where, part.pictures / name, name, partial(segment, png, values, dtype), size)
                crowds += sum(bool(entry.get("iscrowd")) for entry in segments)
            except ValueError as error:
                problems.append(f"{where}: {error}")
        problems += [f"{path}, image {id_}: it has no annotation" for id_ in images if id_ not in pairs]
        found.pairs[split] = list(pairs.values())
        if crowds and not crowd_counts:
            found.notes.append(f"{split}: {crowds} crowd segments are ignored ({IGNORED}); --crowd class counts them")
    return found


def _png(folder: Path, name: str) -> Path:
    if escapes(name):
        raise ValueError(f"file_name {name!r} leads out of the folder of the PNGs")
    if not (folder / name).is_file():
        raise ValueError(f"{folder / name} is missing: the PNGs are looked for in a folder called as the JSON")
    return folder / name


def _segment_values(segments: list[Any], values: Mapping[int, int], crowd_counts: bool) -> dict[int, int]:
    """The label value by segment id; 0 stands for what nobody has labelled."""
    table = {0: IGNORED}
    for entry in segments:
        match entry:
            case {"id": int(id_), "category_id": int(category)} if category in values and id_ not in table:
                table[id_] = IGNORED if entry.get("iscrowd") and not crowd_counts else values[category]
            case _:
                raise ValueError(f"the segment {entry} has no id of its own, or a category that does not exist")
    return table


def segment(png: Path, values: Mapping[int, int], dtype: type[np.integer], size: Size) -> NDArray[np.integer]:
    """The label (H, W) of a picture from its PNG, where a segment's id is R + 256 G + 65536 B.

    Raises: ValueError for a PNG that is damaged, has another size or holds other ids than `values`.
    """
    try:
        with opened(png) as file:
            mode, rgb = file.mode, np.array(file)
    except TooLargeError as error:
        raise ValueError(f"{png} {error}") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{png} is damaged ({error}): copy or download it again") from error
    if mode not in ("RGB", "RGBA") or rgb.shape[1::-1] != size:
        raise ValueError(f"{png} is {mode}, {rgb.shape[1]}x{rgb.shape[0]} pixels; wanted is RGB, {size[0]}x{size[1]}")
    ids = rgb[..., :3].astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)  # (H, W)
    present, inverse = np.unique(ids.ravel(), return_inverse=True)
    if unknown := [id_ for id_ in present.tolist() if id_ not in values]:
        raise ValueError(f"{png} holds segments that the JSON does not list: {', '.join(map(str, unknown[:10]))}")
    return np.array([values[id_] for id_ in present.tolist()], dtype)[inverse].reshape(ids.shape)
