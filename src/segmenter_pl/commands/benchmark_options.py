"""Options of `segmenter benchmark`, with the help that people read."""

import os
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from typer import Argument, Option


class Mode(StrEnum):
    """What is measured."""

    inference = "inference"
    training = "training"
    both = "both"


Words = Annotated[
    list[str] | None,
    Argument(metavar="KEY=VALUE", help="Settings of train.py; values with commas are several models."),
]
ModeOption = Annotated[
    Mode | None,
    Option(
        "--mode",
        help="inference: pictures to class ids of all pixels. training: forward, loss, backward, optimizer. By default "
        "both; with --paper what the table has.",
        show_default=False,
    ),
]
Batch = Annotated[
    str | None,
    Option(metavar="N,N…", help="Pictures at once; by default 1, 2, 4 … while they fit.", show_default=False),
]
MaxBatch = Annotated[
    int | None, Option(min=1, help="Where doubling ends; by default 8 on a CPU, 1024 elsewhere.", show_default=False)
]
Seconds = Annotated[float, Option(min=0, help="Of timed steps for each batch size; at least three steps.")]
Device = Annotated[
    str | None, Option(help="cpu, cuda, cuda:1, mps; by default what trainer= says.", show_default=False)
]
Threads = Annotated[int | None, Option(min=1, help="Of a CPU; by default torch's number.", show_default=False)]
Memory = Annotated[
    float | None,
    Option(
        metavar="GB",
        min=0,
        help="Pretend that the device has no more than this; on a CPU beyond what an empty process takes. By default "
        "all that is free.",
        show_default=False,
    ),
]
Classes = Annotated[int | None, Option(min=1, help="Number of classes; by default the dataset's.", show_default=False)]
Paper = Annotated[
    str | None,
    Option(
        metavar="TABLE",
        help="The models of a published table, with its numbers beside ours: table3, table6, zoo-official, "
        "zoo-mmsegmentation.",
        show_default=False,
    ),
]
Out = Annotated[Path | None, Option("--out", "-o", help="CSV file, a row for each batch size.", show_default=False)]
Plot = Annotated[
    Path | None,
    Option(help="Picture of published mIoU over measured speed (Figure 4 of the paper).", show_default=False),
]


def check_options(out: Path | None, plot: Path | None, mode: Mode | None, batch: str | None, most: int | None) -> None:
    """Raise ValueError for what would otherwise be refused after all the work."""
    from segmenter_pl.analysis.drawing import SUFFIXES

    if out and out.suffix.lower() != ".csv":
        raise ValueError(f"--out {out}: give a name that ends in .csv")
    if plot and plot.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--plot {plot}: give the name of a picture, ending in {', '.join(SUFFIXES)}")
    if plot and find_spec("matplotlib") is None:
        raise ValueError('--plot needs matplotlib, which is not installed: pip install "segmenter-pl[plots]"')
    if plot and mode is Mode.training:
        raise ValueError("--plot is of inference: leave out --mode training")
    for place in filter(None, (out, plot)):
        folder = next(one for one in place.absolute().parents if one.exists())
        if place.is_dir() or not os.access(folder, os.W_OK):
            raise ValueError(f"{place} cannot be written: give another name")
    if batch and most:
        raise ValueError("--batch and --max-batch exclude each other: leave one of them out")


def numbers(batch: str) -> tuple[int, ...]:
    """The batch sizes of --batch. Raises ValueError for anything else."""
    words = [word.strip() for word in batch.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"--batch {batch}: give numbers of pictures, such as 1,2,4")
    return tuple(int(word) for word in words)
