"""`segmenter prepare DATASET`: gets the datasets that others have made."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from segmenter_pl.commands.prepare_folder import EPILOG, override, prepare_folder

if TYPE_CHECKING:
    from segmenter_pl.prepare.recipe import Recipe

HELP = """Get a dataset: download, verify, unpack, convert and count it.

    segmenter prepare ade20k

All happens in ROOT/.preparing until it is complete. Stop it when you like: the same command goes on where it stopped,
and does nothing where all is done. Files that are there already are never changed; a complete copy is accepted as it
is. The datasets' own terms apply, and are shown.
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help=HELP)
app.command("folder", epilog=EPILOG)(prepare_folder)

Root = Annotated[
    Path | None,
    Option(help="The dataset's folder, dataset.root; by default $SEGMENTER_DATA/NAME, or data/NAME."),
]
Sources = Annotated[
    list[str] | None,
    Option(
        "--source",
        help="Where its archives are: a folder that holds them, an archive, or the address of a folder on a mirror. "
        "May be given several times. Files are read where they are, and stay. By default the official addresses.",
    ),
]
Unverified = Annotated[bool, Option("--unverified", help="Accept archives whose checksum is not the published one.")]
Keep = Annotated[bool, Option("--keep-archives", help="Keep what was downloaded, in ROOT/.preparing.")]
Test = Annotated[bool, Option("--test", help="Also the pictures of the test server (without labels).")]


@app.command(epilog="Example:\n\nsegmenter prepare ade20k --root /data/ade20k --test")
def ade20k(
    root: Root = None,
    source: Sources = None,
    unverified: Unverified = False,
    keep_archives: Keep = False,
    test: Test = False,
) -> None:
    """ADE20K, 150 classes, 20210 + 2000 pictures: ADEChallengeData2016.zip (0.97 GB)."""
    from segmenter_pl.prepare import ade20k as dataset

    recipes = [dataset.recipe(), *([dataset.release_test()] if test else [])]
    _run("ade20k", recipes, root, source, unverified, keep_archives)


@app.command(
    "pascal_context",
    epilog="Examples:\n\nsegmenter prepare pascal_context\n\nsegmenter prepare pascal_context --source downloads/"
    "\n\nsegmenter prepare pascal_context --source VOCtrainval_03-May-2010.tar "
    "--source https://cs.stanford.edu/~roozbeh/pascal-context",
)
def pascal_context(
    root: Root = None, source: Sources = None, unverified: Unverified = False, keep_archives: Keep = False
) -> None:
    """Pascal Context, 60 classes, 4998 + 5105 pictures: VOCtrainval_03-May-2010.tar (1.3 GB) and trainval.tar.gz.

    The original labels, of 459 classes, are converted. Where SegmentationClassContext/*.png are in a --source folder,
    they are taken instead; where they are in ROOT, beside VOC 2010, only the missing lists are written.
    """
    from segmenter_pl.prepare import pascal_context as dataset

    _run("pascal_context", [dataset.recipe(source or ())], root, source, unverified, keep_archives)


@app.command(
    epilog="Examples:\n\nsegmenter prepare cityscapes --source downloads/"
    "\n\nsegmenter prepare cityscapes --source leftImg8bit_trainvaltest.zip --source gtFine_trainvaltest.zip"
    "\n\nread -s CITYSCAPES_PASSWORD; export CITYSCAPES_PASSWORD\n\n"
    "CITYSCAPES_USERNAME=name segmenter prepare cityscapes"
)
def cityscapes(
    root: Root = None, source: Sources = None, unverified: Unverified = False, keep_archives: Keep = False
) -> None:
    """Cityscapes, 19 classes, 2975 + 500 + 1525 pictures: leftImg8bit_trainvaltest.zip (11 GB) and gtFine_… (0.25 GB).

    It needs an account at https://www.cityscapes-dataset.com: give the two archives, or set CITYSCAPES_USERNAME and
    CITYSCAPES_PASSWORD. They are sent to that site alone, and kept nowhere.
    """
    from segmenter_pl.prepare import cityscapes as dataset

    _run("cityscapes", [dataset.recipe()], root, source, unverified, keep_archives)


@app.command(
    "rgbt_glass",
    epilog="Examples:\n\nsegmenter prepare rgbt_glass\n\nsegmenter prepare rgbt_glass --source RGB-T-glass.zip",
)
def rgbt_glass(
    root: Root = None, source: Sources = None, unverified: Unverified = False, keep_archives: Keep = False
) -> None:
    """RGB-T-Glass, glass or not, 5551 pictures: RGB-T-glass.zip, from Google Drive."""
    from segmenter_pl.prepare import rgbt_glass as dataset

    _run("rgbt_glass", [dataset.recipe()], root, source, unverified, keep_archives)


def _run(
    name: str, recipes: "list[Recipe]", root: Path | None, sources: list[str] | None, unverified: bool, keep: bool
) -> None:
    """Follow the recipes; sentences for what the user can put right, and exit code 130 after Ctrl-C."""
    from segmenter_pl.faults import explained
    from segmenter_pl.prepare.steps import Options, prepare

    usual = Path(os.environ.get("SEGMENTER_DATA") or "data", name)
    folder = root or usual
    try:
        with explained():
            done = [prepare(recipe, folder, Options(sources or (), unverified, keep)) for recipe in recipes]
            if any(done):
                print(f"Train with it: python train.py dataset={name}{_override(folder, usual)}")
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command continues", err=True)
        raise typer.Exit(130) from None


def _override(root: Path, usual: Path) -> str:
    """The setting that names `root`, quoted for the shell and for Hydra; nothing for the usual one."""
    if root.resolve() == usual.resolve():
        return ""
    return f" {override('dataset.root', root)}"
