"""COCO's instances JSON: objects as polygons or run lengths, painted into one label per picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.prepare.annotations import Part, read_categories, read_document, read_images, sound_records
from segmenter_pl.prepare.importing import IGNORED, Import, Pair, Size, colored, label_type, palette_of, table_text
from segmenter_pl.prepare.outlines import Mask, Points, mask_of_polygons, mask_of_runs, polygon_points, run_lengths

FIELDS = {"image_id": (int, str), "category_id": int, "segmentation": (list, dict)}


@dataclass(frozen=True)
class Region:
    """An object: polygons or runs (lengths, height, width), its label value, and whether it is a crowd."""

    value: int
    polygons: Sequence[Points] = ()
    runs: tuple[Sequence[int], int, int] | None = None
    crowd: bool = False

    def box(self, height: int, width: int) -> tuple[slice, slice, Mask]:
        """Rows and columns of a box that holds it, and which of its pixels are inside."""
        if self.runs:
            return slice(None), slice(None), mask_of_runs(*self.runs)
        return mask_of_polygons(self.polygons, height, width)


def read_coco(parts: Mapping[str, Part], background: bool, crowd_counts: bool) -> Import:
    """Read and check the JSON of every split.

    Args:
        background: pixels without an object are class 0, "background"; else they are ignored.
        crowd_counts: regions with iscrowd=1 belong to their category; else they are ignored.

    Raises: FileNotFoundError, ValueError for a file that is no such JSON; what is wrong in it becomes a problem.
    """
    problems: list[str] = []
    documents = {part.file: read_document(part.file) for part in parts.values()}
    categories = read_categories(documents, background, problems)
    rows = colored(categories.rows)
    found = Import({}, partial(table_text, rows), palette_of(rows), problems)
    ground, dtype = 0 if background else IGNORED, label_type(categories.values.values())
    for split, part in parts.items():
        path, document = part.file, documents[part.file]
        images = read_images(document, path, problems)
        regions: dict[int | str, list[Region]] = {id_: [] for id_ in images}
        for record in sound_records(document, "annotations", FIELDS, path, problems):
            try:
                image_id = record["image_id"]
                if image_id not in images:
                    raise ValueError(f"there is no image {image_id}")
                regions[image_id].append(_region(record, categories.values, images[image_id][1], crowd_counts))
            except ValueError as error:
                problems.append(f"{path}, annotation {record.get('id')}: {error}")
        found.pairs[split] = [
            Pair(f"{path}, image {id_}", part.pictures / name, name, partial(paint, regions[id_], ground, dtype), size)
            for id_, (name, size) in images.items()
        ]
        found.notes += _notes(path.name, regions, background, crowd_counts)
    return found


def _region(record: Mapping[str, Any], values: Mapping[int, int], size: Size | None, crowd_counts: bool) -> Region:
    outline, crowd = record["segmentation"], bool(record.get("iscrowd")) and not crowd_counts
    if record["category_id"] not in values:
        raise ValueError(f"there is no category {record['category_id']}")
    value = IGNORED if crowd else values[record["category_id"]]
    if not outline:
        raise ValueError("it has no outline (a box alone?): remove it, or draw one")
    if isinstance(outline, list):
        return Region(value, polygons=[polygon_points(numbers) for numbers in outline], crowd=crowd)
    match outline.get("size"):
        case [int(height), int(width)] if size in (None, (width, height)) and height > 0 and width > 0:
            return Region(value, runs=(run_lengths(outline.get("counts"), height, width), height, width), crowd=crowd)
    raise ValueError(f"its run lengths are for the size (height, width) {outline.get('size')}, the image is {size}")


def _notes(source: str, regions: Mapping[Any, Sequence[Region]], background: bool, crowd_counts: bool) -> list[str]:
    notes = []
    if empty := sum(not found for found in regions.values()):
        what = "all background" if background else f"all ignored ({IGNORED})"
        notes.append(f"{source}: {empty} of {len(regions)} pictures have no annotation: {what}")
    if crowds := sum(region.crowd for found in regions.values() for region in found):
        notes.append(f"{source}: {crowds} crowd regions are ignored ({IGNORED}); --crowd class counts them")
    return notes


def paint(regions: Sequence[Region], ground: int, dtype: type[np.integer], size: Size) -> NDArray[np.integer]:
    """The label (H, W) of a picture: `ground`, on it ignored crowds, then objects, the larger first.

    So a small object in front of a large one, or inside one, stays visible. Of two that are equal the later is on top.
    """
    width, height = size
    labels = np.full((height, width), ground, dtype)
    boxes = [(region, *region.box(height, width)) for region in regions]
    for region, rows, columns, mask in sorted(boxes, key=lambda box: (not box[0].crowd, -int(box[3].sum()))):
        if region.runs and mask.shape != labels.shape:
            raise ValueError(
                f"run lengths for {mask.shape[1]}x{mask.shape[0]} pixels, the picture has {width}x{height}"
            )
        labels[rows, columns][mask] = region.value
    return labels
