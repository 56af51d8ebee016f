"""Arguments and options, with the help that people read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

LOOK, RESULTS, MOVING = "How the model looks", "Results", "Videos"


class Precision(StrEnum):
    """Of the model's large products."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Overlay(StrEnum):
    """File type of overlays."""

    jpg = "jpg"
    png = "png"


Checkpoint = Annotated[
    Path, Argument(metavar="CKPT", help="A training's best.ckpt, or an official checkpoint.pth beside its variant.yml.")
]
Inputs = Annotated[
    list[str],
    Argument(
        metavar="INPUT",
        help="Pictures, videos, folders (with all below them), quoted patterns, a camera's number, URLs. Of several "
        "pages, or of an animated GIF, the first picture counts (a GIF with --video: all).",
    ),
]
Out = Annotated[
    Path,
    Option("--out", "-o", help="Folder for the results; for a single video also a file ending in .mp4 or .gif."),
]

Multiscale = Annotated[bool, Option("--multiscale", help="Average over the paper's six scales.", rich_help_panel=LOOK)]
Flip = Annotated[bool, Option("--flip", help="Average over mirrored pictures too.", rich_help_panel=LOOK)]
Window = Annotated[int | None, Option(help="Side of the sliding window, pixels.", rich_help_panel=LOOK)]
Stride = Annotated[int | None, Option(help="Its step, pixels, at most the window.", rich_help_panel=LOOK)]
ShortSide = Annotated[
    str,
    Option(
        help="Bring pictures to this short side first: pixels, [b]none[/b] to keep their size, [b]auto[/b] for the "
        "training's.",
        rich_help_panel=LOOK,
    ),
]
Device = Annotated[
    str | None, Option(help="cpu, cuda, cuda:1 …; by default an accelerator if there is one.", rich_help_panel=LOOK)
]
ModelPrecision = Annotated[Precision, Option(help="Of the model's large products.", rich_help_panel=LOOK)]

Alpha = Annotated[float, Option(min=0, max=1, help="Strength of the colours in overlays.", rich_help_panel=RESULTS)]
OverlayType = Annotated[Overlay, Option(help="File type of pictures' overlays.", rich_help_panel=RESULTS)]
Legend = Annotated[
    bool,
    Option(
        "--legend", help="The classes present and their shares of pixels, beside overlays.", rich_help_panel=RESULTS
    ),
]
SaveProbabilities = Annotated[
    bool,
    Option(
        "--save-probabilities",
        help="Also probabilities/NAME.npz: probabilities (K, H, W) in float16, that is 2·K bytes per pixel.",
        rich_help_panel=RESULTS,
    ),
]
AnySize = Annotated[
    bool,
    Option("--any-size", help="Read pictures beyond the limit (179 megapixels) too.", rich_help_panel=RESULTS),
]

Video = Annotated[
    bool, Option("--video", help="A folder or pattern is the frames of one video.", rich_help_panel=MOVING)
]
Smooth = Annotated[
    float,
    Option(
        min=0,
        max=1,
        help="Average class probabilities over time: the weight of the past, 0 (off) to below 1. Keeps them for every "
        "pixel: 4·K bytes each, 1.2 GB for 150 classes at 1920x1080.",
        rich_help_panel=MOVING,
    ),
]
Fps = Annotated[
    float,
    Option(min=0.01, max=1000, help="Frames per second where the source does not tell.", rich_help_panel=MOVING),
]


def short_side(text: str) -> int | str | None:
    """What --short-side says: pixels, "auto", or None for "none". Raises ValueError for anything else."""
    if text in ("auto", "none"):
        return None if text == "none" else text
    if not (text.isdecimal() and int(text)):
        raise ValueError(f"--short-side {text}: give a number of pixels above 0, none or auto")
    return int(text)
