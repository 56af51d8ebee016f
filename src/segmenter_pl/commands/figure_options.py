"""Options of `segmenter compare` and `segmenter gallery`, with the help that people read."""

from pathlib import Path
from typing import Annotated

from typer import Option

DATA, RESULTS = "Labelled pictures", "Results"

Root = Annotated[
    Path | None,
    Option("--root", help="The dataset's folder, where it is not the usual or the training's.", show_default=False,
           rich_help_panel=DATA),
]  # fmt: skip
Split = Annotated[str, Option("--split", help="Which of its pictures.", rich_help_panel=DATA)]
Settings = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of DATASET as for train.py, e.g. dataset.ignore_value=11; may be repeated.",
        show_default=False,
        rich_help_panel=DATA,
    ),
]
Alpha = Annotated[float, Option(min=0, max=1, help="Strength of the classes' colours.", rich_help_panel=RESULTS)]
Size = Annotated[int, Option(min=32, help="Longer side of every picture on a sheet, pixels.", rich_help_panel=RESULTS)]
