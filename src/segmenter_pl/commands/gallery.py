"""`segmenter gallery`: the best and the worst pictures of a model, and where it fails each class."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from segmenter_pl.commands import figure_options as f
from segmenter_pl.commands import options as o

if TYPE_CHECKING:
    from segmenter_pl.commands.galleries import Gallery
    from segmenter_pl.data.dataset import SegmentationDataset

EPILOG = """
Examples:

segmenter gallery best.ckpt -o out

segmenter gallery best.ckpt -o out --class car --class pole --count 4 --fraction 0.1

segmenter gallery best.ckpt -o out --against other.ckpt

segmenter gallery checkpoint.pth -o out --dataset ade20k --root /data/ade20k
"""

Out = Annotated[Path, Option("--out", "-o", help="Folder for the results.")]
Against = Annotated[
    Path | None,
    Option(
        "--against",
        metavar="CKPT",
        help="A second model: also the pictures in which it is better and worse by the most.",
        show_default=False,
    ),
]
Class = Annotated[
    list[str] | None,
    Option(
        "--class",
        metavar="NAME",
        help="A sheet for this class, by name or number; may be repeated. By default for all.",
        show_default=False,
    ),
]
Count = Annotated[int, Option("--count", min=1, help="Pictures on each sheet.")]
Dataset = Annotated[
    str,
    Option(
        "--dataset",
        metavar="DATASET|ROOT|training",
        help="A name as in dataset=NAME, a folder, or [b]training[/b] for the one that CKPT was trained on.",
        rich_help_panel=f.DATA,
    ),
]
Fraction = Annotated[
    float,
    Option("--fraction", help="Take a fixed part of the pictures, above 0 and up to 1.", rich_help_panel=f.DATA),
]


def gallery(
    checkpoint: o.Checkpoint,
    out: Out,
    against: Against = None,
    classes: Class = None,
    count: Count = 6,
    dataset: Dataset = "training",
    root: f.Root = None,
    split: f.Split = "val",
    settings: f.Settings = None,
    fraction: Fraction = 1.0,
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
    """Show the best and the worst pictures of a labelled split, and for each class those in which it fails worst.

    OUT gets best.jpg and worst.jpg (by the pictures' own mIoU), classes/NUMBER_NAME.jpg (by the class's IoU in the
    picture: what was missed, what was false, what it was confused with) and pictures.csv with the scores of all
    pictures; with --against also against_better.jpg and against_worse.jpg.

    What cannot be read is listed at the end, and the exit code is 1.
    """
    from segmenter_pl.faults import explained

    see = {"multiscale": multiscale, "flip": flip, "window": window, "stride": stride, "device": device}
    try:
        with explained():
            see |= {"short_side": o.short_side(short_side), "precision": str(precision)}
            if not 0 < fraction <= 1:
                raise ValueError(f"--fraction {fraction}: give a number above 0 and up to 1")
            if out.exists() and not out.is_dir():
                raise ValueError(f"--out {out} is a file: give a folder")
            from segmenter_pl.commands.labelled import labelled_set

            name, pictures = labelled_set(dataset, root, split, settings or [], checkpoint)
            models = [path for path in (checkpoint, against) if path is not None]
            look = {"wanted": classes or [], "count": count, "alpha": alpha, "side": size}
            made = _gallery(models, pictures, f"{name}, split {split}", fraction, see, look)
            said, failures = made.write(out)
    except KeyboardInterrupt:
        print(f"Stopped: {out} does not hold everything")
        raise typer.Exit(130) from None
    print(f"{said} → {out}")
    if failures:
        typer.echo("\n  ".join([f"Left out ({len(failures)}):", *failures]), err=True)
    raise typer.Exit(int(bool(failures)))


def _gallery(
    checkpoints: list[Path],
    pictures: "SegmentationDataset",
    where: str,
    fraction: float,
    see: dict[str, Any],
    look: dict[str, Any],
) -> "Gallery":
    """Load the models, which have to fit the pictures; `see` is for `Predictor`, `look` for `Gallery`."""
    from segmenter_pl.analysis.gallery import part_of
    from segmenter_pl.checkpoint import load_segmenter
    from segmenter_pl.commands.galleries import Gallery
    from segmenter_pl.commands.labelled import require_same_classes
    from segmenter_pl.predictor import Predictor

    models = [(str(path), Predictor(load_segmenter(path), **see)) for path in checkpoints]
    require_same_classes(models, (where, pictures.classes))
    return Gallery(models, part_of(pictures, fraction), where, **look)
