"""`segmenter explore`: a page on this machine to look at pictures through a model."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from segmenter_pl.commands import options as o

EPILOG = """
Examples:

segmenter explore best.ckpt photos/

segmenter explore best.ckpt photos/ --compare other.ckpt

segmenter explore best.ckpt drive.mp4

segmenter explore best.ckpt frames/ --video --fps 12

segmenter explore best.ckpt photos/ --no-browser --port 8000     (through ssh -L 8000:127.0.0.1:8000)
"""

Pictures = Annotated[
    str | None,
    Argument(
        metavar="[PICTURES]",
        help="A picture, a video, a folder with all below it, or a quoted pattern; without it, drop pictures on the "
        "page.",
        show_default=False,
    ),
]
Compare = Annotated[
    Path | None, Option("--compare", metavar="CKPT2", help="A second checkpoint, beside the first.", show_default=False)
]
Port = Annotated[
    int, Option(min=0, max=65535, help="Of the page's address; 0 is any that is free.", rich_help_panel="The page")
]
Browser = Annotated[bool, Option("--browser/--no-browser", help="Open the page.", rich_help_panel="The page")]


def explore(
    checkpoint: o.Checkpoint,
    pictures: Pictures = None,
    compare: Compare = None,
    short_side: o.ShortSide = "auto",
    device: o.Device = None,
    video: o.Video = False,
    fps: o.Fps = 25.0,
    port: Port = 0,
    browser: Browser = True,
) -> None:
    """Look at pictures and videos through a model, on a page in the browser.

    Classes with an opacity each, probabilities and attention at a click, a second checkpoint beside the first, label
    PNGs to keep. The page is for this machine only, and needs no network. Ctrl-C ends it.
    """
    from segmenter_pl.faults import explained

    try:
        with explained():
            from segmenter_pl.commands.exploring import samples, serve_page

            seeing = {"short_side": o.short_side(short_side), "device": device}
            items = samples(pictures, fps, video=video) if pictures is not None else []
            serve_page([checkpoint, *([compare] if compare else [])], items, seeing, port, browser=browser)
    except KeyboardInterrupt:  # the way to end it
        print("Stopped")
