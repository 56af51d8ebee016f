"""Options of `segmenter prepare folder`, with the help that people read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Option

JSON, TABLE = "COCO's instances and panoptic JSON", "Table of pairs"


class Format(StrEnum):
    """What is imported."""

    coco = "coco"
    panoptic = "panoptic"
    csv = "csv"


class Unlabelled(StrEnum):
    """What pixels are that have no class, or no sure one."""

    as_class = "class"
    ignore = "ignore"


Root = Annotated[Path, Option(help="Folder that is made, new or empty; it becomes dataset.root.")]
From = Annotated[
    Format,
    Option(
        "--from",
        help="[b]coco[/b]: instances JSON (polygons, run lengths). [b]panoptic[/b]: JSON, its PNGs in a folder of the "
        "same name. [b]csv[/b]: a table of pictures and label files.",
    ),
]
Link = Annotated[bool, Option("--link", help="Link pictures instead of copying them (and a table's label PNGs).")]

Train = Annotated[Path | None, Option(metavar="FILE", help="JSON for training.", rich_help_panel=JSON)]
Val = Annotated[
    str | None,
    Option(
        metavar="FILE|SHARE",
        help="JSON for validation, or the share of --train to hold out for it, such as 0.2. It is drawn picture by "
        "picture: split frames of one video by hand.",
        rich_help_panel=JSON,
    ),
]
Pictures = Annotated[
    Path | None, Option(metavar="DIR", help="Folder that file_name is relative to.", rich_help_panel=JSON)
]
ValPictures = Annotated[
    Path | None, Option(metavar="DIR", help="The same for --val, if it is another.", rich_help_panel=JSON)
]
Background = Annotated[
    Unlabelled | None,
    Option(
        help="coco only. Pixels without an object: [b]class[/b] 0, background (the default), or [b]ignore[/b]: they "
        "do not count.",
        rich_help_panel=JSON,
    ),
]
Crowd = Annotated[
    Unlabelled | None,
    Option(
        help="Regions with iscrowd=1, which are drawn coarsely: [b]ignore[/b] (the default), or [b]class[/b]: they are "
        "of their category.",
        rich_help_panel=JSON,
    ),
]

Pairs = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="CSV with the header split,picture,label. split is train, val or test; paths are relative to the CSV, or "
        "absolute.",
        rich_help_panel=TABLE,
    ),
]
ClassTable = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="CSV with the header id,name or id,name,R,G,B: what the label values mean. Without it the classes are "
        "called by their values.",
        rich_help_panel=TABLE,
    ),
]
