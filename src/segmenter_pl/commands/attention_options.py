"""Options of `segmenter attention`, with the help that people read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

WHERE, WHO, RESULTS = "Which layer", "Who looks", "Results"


class Layout(StrEnum):
    """Which files are written."""

    overlays = "overlays"
    official = "official"


Image = Annotated[
    str,
    Argument(metavar="IMAGE", help="A picture; a video, or with --video a folder of frames, gives videos."),
]
Out = Annotated[Path, Argument(metavar="OUT", help="Folder for the results.")]

Encoder = Annotated[bool, Option("--enc/--dec", help="Layers of the encoder, or of the mask decoder.",
                                 rich_help_panel=WHERE)]  # fmt: skip
LayerId = Annotated[
    list[int] | None,
    Option(
        "--layer-id",
        "--layer",
        help="Its number from 0, by default 0; -1 is the last. May be repeated.",
        show_default=False,
        rich_help_panel=WHERE,
    ),
]
Head = Annotated[
    list[str] | None,
    Option(
        "--head",
        help="A head's number from 0, or [b]mean[/b]; may be repeated. By default all.",
        show_default=False,
        rich_help_panel=WHERE,
    ),
]
Rollout = Annotated[
    bool,
    Option(
        "--rollout",
        help="All layers up to this one together, back to the picture (Abnar and Zuidema, 2020), in place of one "
        "layer's weights.",
        rich_help_panel=WHERE,
    ),
]

XPatch = Annotated[
    int | None, Option("--x-patch", help="Column of the patch, from 0; by default 0.", show_default=False,
                       rich_help_panel=WHO)
]  # fmt: skip
YPatch = Annotated[
    int | None, Option("--y-patch", help="Its row, from 0; by default 0.", show_default=False, rich_help_panel=WHO)
]
Pixel = Annotated[
    tuple[int, int] | None,
    Option("--pixel", metavar="X Y", help="The patch at this pixel of IMAGE.", show_default=False, rich_help_panel=WHO),
]
ClassToken = Annotated[
    bool,
    Option(
        "--cls/--patch",
        help="The class token; with --dec the embedding of every class. Or one patch.",
        rich_help_panel=WHO,
    ),
]
Class = Annotated[
    list[str] | None,
    Option(
        "--class",
        metavar="NAME",
        help="With --dec, the embedding of a class, by name or number; may be repeated.",
        show_default=False,
        rich_help_panel=WHO,
    ),
]

Cmap = Annotated[str, Option("--cmap", help="A colour map of matplotlib.", rich_help_panel=RESULTS)]
Alpha = Annotated[float, Option(min=0, max=1, help="Strength of the colours in overlays.", rich_help_panel=RESULTS)]
Clip = Annotated[
    float,
    Option(
        "--clip",
        min=0,
        max=100,
        help="In overlays the last colour stands for this percentile of a map and all above, since a few patches often "
        "get nearly everything; 100 is the highest weight.",
        rich_help_panel=RESULTS,
    ),
]
LayoutOption = Annotated[
    Layout,
    Option(
        "--layout",
        help="[b]official[/b]: the files of the official script, maps without the picture.",
        rich_help_panel=RESULTS,
    ),
]
SaveWeights = Annotated[
    bool,
    Option("--save-weights", help="Also weights.npz: the weights of patches as numbers.", rich_help_panel=RESULTS),
]
Gif = Annotated[bool, Option("--gif", help="Of a video: GIFs in place of MP4s.", rich_help_panel=RESULTS)]


def require_agreeing(
    *,
    encoder: bool,
    cls: bool,
    x_patch: int | None,
    y_patch: int | None,
    pixel: tuple[int, int] | None,
    classes: list[str] | None,
    heads: list[str] | None,
    rollout: bool,
    official: bool,
) -> None:
    """Raise ValueError where options exclude each other."""
    asked = {
        "--cls": cls,
        "--class": bool(classes),
        "--pixel": pixel is not None,
        "--x-patch and --y-patch": x_patch is not None or y_patch is not None,
    }
    given = [name for name, there in asked.items() if there]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} both say who looks: give one of them")
    if classes and encoder:
        raise ValueError("--class: class embeddings are in the mask decoder: add --dec")
    if rollout and heads:
        raise ValueError("--rollout takes the mean over the heads: leave out --head")
    if rollout and official:
        raise ValueError("--layout official has no files for --rollout: leave out one of them")
    if official and heads and "mean" in heads:
        raise ValueError("--layout official has no file for --head mean: leave out one of them")
