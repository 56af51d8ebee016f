"""`segmenter prepare folder`: own pictures, from COCO's formats or a table of pairs."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segmenter_pl.commands import import_options as o

if TYPE_CHECKING:
    from segmenter_pl.prepare.importing import Import

EPILOG = """
Examples:

segmenter prepare folder --root pets --from coco --train coco.json --val 0.2 --pictures photos

segmenter prepare folder --root coco --from coco --train instances_train2017.json --val instances_val2017.json
--pictures train2017 --val-pictures val2017 --link

segmenter prepare folder --root coco --from panoptic --train panoptic_train2017.json --val panoptic_val2017.json
--pictures train2017 --val-pictures val2017

segmenter prepare folder --root fields --from csv --pairs pairs.csv --classes classes.csv
"""


def prepare_folder(
    root: o.Root,
    source: o.From,
    link: o.Link = False,
    train: o.Train = None,
    val: o.Val = None,
    pictures: o.Pictures = None,
    val_pictures: o.ValPictures = None,
    background: o.Background = None,
    crowd: o.Crowd = None,
    pairs: o.Pairs = None,
    classes: o.ClassTable = None,
) -> None:
    """Make a tree for dataset=folder of your own pictures: images/, labels/ and classes.csv.

    Categories become the label values 1, 2, 3 … in the order of their ids; 255 is what does not count. Where objects
    overlap, the smaller is on top. Pictures have three channels, or one; alpha is dropped, multispectral TIFFs are
    refused.

    Everything is checked before anything is written; what is wrong is listed, and the exit code is 1.
    """
    from segmenter_pl.faults import explained
    from segmenter_pl.prepare.headers import check_pictures
    from segmenter_pl.prepare.importing import refuse
    from segmenter_pl.prepare.writing import empty, write_tree

    options = {"train": train, "val": val, "pictures": pictures, "val_pictures": val_pictures}
    options |= {"background": background, "crowd": crowd, "pairs": pairs, "classes": classes}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        with explained():
            _require(source, set(given))
            with empty(root) as temporary:
                found = _read(source, **given)
                sizes = check_pictures(found)
                refuse(found.problems, "nothing is imported")
                write_tree(found, sizes, temporary, link)
            _tell(found, root)
    except KeyboardInterrupt:
        typer.echo("Stopped: nothing is imported", err=True)
        raise typer.Exit(130) from None


def _read(source: o.Format, **given: Any) -> "Import":
    """What is to be imported, by the options that were given."""
    if source == o.Format.csv:
        from segmenter_pl.prepare.pairs_csv import read_pairs

        return read_pairs(given["pairs"], given.get("classes"))
    from segmenter_pl.prepare.annotations import Part
    from segmenter_pl.prepare.coco import read_coco
    from segmenter_pl.prepare.importing import hold_out
    from segmenter_pl.prepare.panoptic import read_panoptic

    for name in ("pictures", "val_pictures"):
        if name in given and not given[name].is_dir():
            raise FileNotFoundError(f"{_options({name})} {given[name]} is not a folder: correct it")
    share = _share(given["val"])
    parts = {"train": Part(given["train"], given["pictures"])}
    if share is None:
        parts["val"] = Part(Path(given["val"]), given.get("val_pictures", given["pictures"]))
    crowd_counts = given.get("crowd") == o.Unlabelled.as_class
    if source == o.Format.coco:
        found = read_coco(parts, given.get("background") != o.Unlabelled.ignore, crowd_counts)
    else:
        found = read_panoptic(parts, crowd_counts)
    if share is not None and not found.problems:
        hold_out(found, share)
    return found


def _require(source: o.Format, given: set[str]) -> None:
    """Raise ValueError for options that are missing, or are for another source."""
    needed = {"pairs"} if source == o.Format.csv else {"train", "val", "pictures"}
    allowed = {"classes"} if source == o.Format.csv else {"val_pictures", "crowd"}
    if source == o.Format.coco:
        allowed |= {"background"}
    if missing := needed - given:
        raise ValueError(f"--from {source} needs {_options(missing)}: see segmenter prepare folder --help")
    if wrong := given - needed - allowed:
        raise ValueError(f"{_options(wrong)}: not for --from {source}; leave it out")


def _options(names: set[str]) -> str:
    return ", ".join(sorted("--" + name.replace("_", "-") for name in names))


def _share(text: str | None) -> float | None:
    """A share of the pictures, or None for a file."""
    try:
        share = float(text or "")
    except ValueError:
        if not Path(text or "").is_file():
            raise ValueError(f"--val {text}: give the JSON of the annotations, or a share such as 0.2") from None
        return None
    if not 0 < share < 1:
        raise ValueError(f"--val {text}: a share lies between 0 and 1; anything else is the name of a JSON")
    return share


def _tell(found: "Import", root: Path) -> None:
    for note in found.notes:
        print(f"Note: {note}")
    counts = " and ".join(f"{len(pairs)} {split}" for split, pairs in found.pairs.items())
    print(f"{counts} pictures → {root}. Check them, then train:\n")
    print(f"    segmenter check {shlex.quote(str(root))}")
    print(f"    python train.py dataset=folder {override('dataset.root', root)} backbone=vit_s16")


def override(key: str, path: Path) -> str:
    """`key`=`path` as a word of a command line, quoted for the shell and for Hydra."""
    text = str(path)
    if not re.fullmatch(r"[\w./~+-]+", text):
        # In Hydra's quotes, backslashes are escaped before a quote only.
        text = '"' + re.sub(r'(\\*)("|$)', lambda met: met[1] * 2 + ('\\"' if met[2] else ""), text) + '"'
    return shlex.quote(f"{key}={text}")
