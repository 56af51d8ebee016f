"""`segmenter browse`: a contact sheet of training samples, for eyes."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from segmenter_pl.commands import datasets as d

if TYPE_CHECKING:
    from segmenter_pl.checking.sheet import Sample
    from segmenter_pl.data.datamodule import SegmentationDataModule

SIDE = 320  # pixels, at most, of a sample's longer side on the sheet
SUFFIXES = (".png", ".jpg", ".jpeg")

EPILOG = """
Examples:

segmenter browse pictures/ dataset.ignore_value=0 dataset.crop=384

segmenter browse ade20k --root /data/ade20k --count 40 --columns 5 -o samples.png

segmenter browse cityscapes --split val
"""

Out = Annotated[
    Path | None, Option("--out", "-o", help="PNG or JPEG file; by default check/NAME/SPLIT.png.", show_default=False)
]
Count = Annotated[int, Option(min=1, help="Number of samples.")]
Seed = Annotated[int, Option(min=0, help="As seed=N of train.py: its first samples are shown.")]
Columns = Annotated[int, Option(min=1, help="Samples side by side.")]
Split = Annotated[str, Option(help="Which pictures; other than train they are whole.")]
Plain = Annotated[bool, Option("--plain", help="Whole pictures, without augmentation.")]


def browse(
    dataset: d.Dataset,
    overrides: d.Overrides = None,
    root: d.Root = None,
    out: Out = None,
    count: Count = 16,
    seed: Seed = 0,
    columns: Columns = 4,
    split: Split = "train",
    plain: Plain = False,
) -> None:
    """Show training samples with their labels, as a training with these settings gets them.

    They are the first ones of that training: resized, cropped, flipped, distorted, padded. To the right of each are its
    labels; hatched pixels do not count. What is larger than 320 pixels is shown smaller. Padding is grey here, and has
    the model's mean colour in training.
    """
    from segmenter_pl.faults import explained

    try:
        with explained():
            name, datamodule = d.opened(dataset, overrides, root, f"seed={seed}", "bad_sample=skip")
            path = out or Path("check", name, f"{split}.png")
            if path.suffix.lower() not in SUFFIXES:
                raise ValueError(f"--out {path}: give the name of a picture, ending in {', '.join(SUFFIXES)}")
            shown = _write(datamodule, path, split, count, columns, plain=plain)
    except KeyboardInterrupt:
        print("Stopped: nothing was written")
        raise typer.Exit(130) from None
    print(f"{shown} samples of {name}, split {split} → {path}")


def _write(
    datamodule: "SegmentationDataModule", path: Path, split: str, count: int, columns: int, *, plain: bool
) -> int:
    from PIL import Image

    from segmenter_pl.checking.samples import samples
    from segmenter_pl.checking.sheet import contact_sheet
    from segmenter_pl.files import fresh

    chosen: list[Sample] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of numbers other than the published: that is for `check`
        for one in samples(datamodule, split, plain=plain):
            if isinstance(one, str):
                typer.echo(f"Left out: {one}", err=True)
                continue
            chosen.append(one)
            if len(chosen) == count:
                break
    side = min(max(max(sample.mask.shape) for sample in chosen), SIDE)
    sheet = contact_sheet(chosen, datamodule.classes, columns, side)
    with fresh(path) as temporary:
        Image.fromarray(sheet).save(temporary, quality=92)
    return len(chosen)
