"""`segmenter compare`: pictures as several models see them, side by side."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from segmenter_pl.commands import figure_options as f
from segmenter_pl.commands import options as o

if TYPE_CHECKING:
    from segmenter_pl.commands.comparing import Source
    from segmenter_pl.data.dataset import SegmentationDataset

SUFFIXES = (".png", ".jpg", ".jpeg")

EPILOG = """
Examples:

segmenter compare photo.jpg -m Seg-B/32=b32.ckpt -m Seg-B/16=b16.ckpt -m Seg-B/8=b8.ckpt -o figure3.png

segmenter compare 0001TP_009030 0001TP_009210 -m Linear=linear.ckpt -m Mask=mask.ckpt --dataset training -o decoders.png

segmenter compare photos/ -m SGD=sgd.ckpt -m AdamW=adamw.ckpt --difference -o differences.png
"""

Inputs = Annotated[
    list[str],
    Argument(
        metavar="INPUT",
        help="Pictures, folders (with all below them), quoted patterns. With --dataset its pictures, by file or name.",
    ),
]
Model = Annotated[
    list[str],
    Option("--model", "-m", metavar="LABEL=CKPT", help="A checkpoint, and what its column is called; may be repeated."),
]
Out = Annotated[Path, Option("--out", "-o", help="PNG or JPEG file.")]
Dataset = Annotated[
    str | None,
    Option(
        "--dataset",
        metavar="DATASET|ROOT|training",
        help="The INPUTs are pictures of this dataset, and have a truth: a name as in dataset=NAME, a folder, or "
        "[b]training[/b] for the one that the first model was trained on.",
        show_default=False,
        rich_help_panel=f.DATA,
    ),
]
Difference = Annotated[
    bool,
    Option(
        "--difference",
        help="Below each prediction its mistakes; without a truth, where it differs from the first model's.",
        rich_help_panel=f.RESULTS,
    ),
]


def compare(
    inputs: Inputs,
    model: Model,
    out: Out,
    dataset: Dataset = None,
    root: f.Root = None,
    split: f.Split = "val",
    settings: f.Settings = None,
    difference: Difference = False,
    alpha: f.Alpha = 0.6,
    size: f.Size = 480,
    multiscale: o.Multiscale = False,
    flip: o.Flip = False,
    window: o.Window = None,
    stride: o.Stride = None,
    short_side: o.ShortSide = "auto",
    device: o.Device = None,
    precision: o.ModelPrecision = o.Precision.float32,
) -> None:
    """Show pictures as several models segment them, beside the truth (Figures 3, 5 and 9 to 12 of the paper).

    A row for each picture, a column for each model; with a truth, the mIoU of each prediction, over the classes in
    truth or prediction. The models need the same classes, but may be of any kind that `segmenter predict` takes.
    """
    from segmenter_pl.faults import explained

    see = {"multiscale": multiscale, "flip": flip, "window": window, "stride": stride, "device": device}
    try:
        with explained():
            see |= {"short_side": o.short_side(short_side), "precision": str(precision)}
            models = _labelled(model)
            if out.suffix.lower() not in SUFFIXES or out.is_dir():
                raise ValueError(f"--out {out}: give the name of a picture, ending in {', '.join(SUFFIXES)}")
            data: tuple[str, SegmentationDataset] | None = None
            if dataset is not None:
                from segmenter_pl.commands.labelled import labelled_set

                data = labelled_set(dataset, root, split, settings or [], models[0][1])
            elif root is not None or settings:
                raise ValueError("--root and --set are of a dataset with a truth: give --dataset too")
            elif difference and len(models) < 2:
                raise ValueError("--difference needs a truth (--dataset) or a second --model")
            shown = _write(_sources(inputs, out, data), models, out, data, see, (alpha, size), difference=difference)
    except KeyboardInterrupt:
        print("Stopped: nothing was written")
        raise typer.Exit(130) from None
    some = [f"{number} {what}{'s'[: number != 1]}" for number, what in ((shown, "picture"), (len(models), "model"))]
    print(f"{' by '.join(some)} → {out}")


def _labelled(words: list[str]) -> list[tuple[str, Path]]:
    """Labels and checkpoints as typed. Raises: ValueError."""
    models: list[tuple[str, Path]] = []
    for word in words:
        label, given, path = word.partition("=")
        if not (label and given and path):
            raise ValueError(f"--model {word}: give LABEL=CKPT, e.g. Seg-B/16={word.strip('=') or 'best.ckpt'}")
        if label in dict(models):
            raise ValueError(f"--model {word}: there is a model {label} already, give this one another label")
        models.append((label, Path(path)))
    return models


def _sources(inputs: list[str], out: Path, data: "tuple[str, SegmentationDataset] | None") -> list["Source"]:
    """The pictures that the INPUTs stand for. Raises: ValueError."""
    from segmenter_pl.commands.comparing import Source
    from segmenter_pl.commands.inputs import find
    from segmenter_pl.commands.labelled import find_picture
    from segmenter_pl.pictures import read_rgb

    if out.exists() and any(Path(word).is_file() and out.samefile(word) for word in inputs):
        raise ValueError(f"--out {out} would replace an INPUT: give another name")
    if data is not None:
        indices = dict.fromkeys(find_picture(word, data[1]) for word in inputs)
        return [Source(data[1].name(index), partial(data[1].read, index)) for index in indices]
    found = find(inputs, out, video=False)
    if found.missing:
        raise ValueError(found.missing[0])
    if film := next((job for job in found.jobs if job.video), None):
        raise ValueError(f"{film} is a video: give pictures")

    def read(path: Path) -> tuple[Any, None]:
        return read_rgb(path), None

    return [Source(job.name.with_suffix("").as_posix(), partial(read, Path(str(job.source)))) for job in found.jobs]


def _write(
    sources: list["Source"],
    models: list[tuple[str, Path]],
    out: Path,
    data: "tuple[str, SegmentationDataset] | None",
    see: dict[str, Any],
    look: tuple[float, int],
    *,
    difference: bool,
) -> int:
    """Load the models, predict, draw; returns the number of pictures."""
    from PIL import Image

    from segmenter_pl.analysis.figure_sheet import require_room
    from segmenter_pl.checkpoint import load_segmenter
    from segmenter_pl.commands.comparing import columns, compared, look_of
    from segmenter_pl.commands.labelled import require_same_classes
    from segmenter_pl.files import fresh
    from segmenter_pl.predictor import Predictor
    from segmenter_pl.prepare.progress import progress

    if not sources:
        raise ValueError("the INPUTs hold no picture: give one")
    side = look[1]
    width = len(columns([label for label, _ in models], truth=data is not None))
    require_room(len(sources) * (1 + difference), width, side)
    predictors = [(label, Predictor(load_segmenter(path), **see)) for label, path in models]
    classes = data and data[1].classes
    require_same_classes(predictors, data and (data[0], data[1].classes))
    with progress("pictures", len(sources), files=True) as advance:
        sheet = compared(
            sources, predictors, classes, look_of(predictors, classes, *look), difference=difference, advance=advance
        )
    with fresh(out) as temporary:
        Image.fromarray(sheet).save(temporary, quality=92)
    return len(sources)
