"""Pascal Context: the pictures of VOC 2010, and labels of 459 classes that become 60."""

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files as packaged
from pathlib import Path

import cv2
import numpy as np
import scipy.io

from segmenter_pl.data.pascal_context import PascalContextDataModule
from segmenter_pl.files import fresh
from segmenter_pl.pictures import opened
from segmenter_pl.prepare.progress import progress
from segmenter_pl.prepare.recipe import Archive, Recipe, merge, pairs

VOC = Archive(
    "VOCtrainval_03-May-2010.tar",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
    "sha1:bf9985e9f2b064752bf6bd654d89f017c76c395a",
)
LABELS = Archive("trainval.tar.gz", "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz")
TERMS = """\
The pictures of PASCAL VOC 2010 are from Flickr, whose terms apply to them; who uses them cites Everingham et al.
Who uses the Pascal Context labels cites Mottaghi et al., "The Role of Context for Object Detection …", CVPR 2014."""
BY_HAND = (
    f"By hand: the archives are {VOC.name} of http://host.robots.ox.ac.uk/pascal/VOC/voc2010/ and {LABELS.name} of "
    "https://cs.stanford.edu/~roozbeh/pascal-context/; give them with --source FOLDER. A --source FOLDER with "
    "SegmentationClassContext/*.png in it serves in place of the labels' archive"
)
CONVERTED = "SegmentationClassContext"
HOME = Path("VOCdevkit", "VOC2010")
IDS = 460  # 0…459


def recipe(sources: Sequence[str] = ()) -> Recipe:
    """VOC 2010 and the labels; a folder of converted ones in `sources` is used in place of the labels' archive."""
    places = [Path(source, home, CONVERTED) for source in sources for home in ("", "VOC2010", HOME)]
    converted = next((place for place in places if place.is_dir()), None)
    return Recipe(
        key="pascal_context",
        terms=TERMS,
        by_hand=BY_HAND,
        archives=(VOC, *([] if converted else [LABELS])),
        brings=("VOCdevkit", "VOC2010", "JPEGImages", CONVERTED),
        count=pairs(PascalContextDataModule, ("train", "val")),
        sizes=PascalContextDataModule.sizes,
        arrange=partial(arrange, converted=converted),
        complete=complete,
    )


def arrange(extracted: Mapping[str, Path], tree: Path, *, converted: Path | None = None) -> None:
    """VOC 2010 as it comes, SegmentationClassContext made of the labels (or copied), and the lists."""
    merge(extracted[VOC.name], tree)
    home = tree / HOME
    for stray in home.rglob(".*.part.*"):  # of a try that was killed
        stray.unlink()
    sources = sorted(converted.glob("*.png") if converted else extracted[LABELS.name].rglob("*.mat"))
    table = table_459()
    with progress("labels", len(sources), files=True) as advance:
        for source in sources:  # about a millisecond each; threads or processes gain nothing worth their weight
            target = home / CONVERTED / f"{source.stem}.png"
            if not target.exists():
                with fresh(target) as temporary:
                    _label(source, home / "JPEGImages" / f"{source.stem}.jpg", temporary, table)
            advance(1)
    write_lists(home)


def _label(source: Path, picture: Path, target: Path, table: np.ndarray) -> None:
    if source.suffix == ".png":
        target.write_bytes(source.read_bytes())
        return
    label = table[read_459(source)]
    if not picture.is_file():
        raise FileNotFoundError(f"{source.name} has no picture {picture.name} in {VOC.name}")
    with opened(picture) as image:
        if image.size != label.shape[::-1]:
            sizes = f"{label.shape[1]}x{label.shape[0]} and {picture.name} is {image.width}x{image.height} pixels"
            raise ValueError(f"{source} is {sizes}: one of them is of another dataset, or damaged")
    target.write_bytes(cv2.imencode(".png", label)[1].tobytes())


def table_459() -> np.ndarray:
    """The label value 0…59 of each of the original ids 0…459: (460,) uint8, with 0 (background) for the rest."""
    table = np.zeros(IDS, np.uint8)
    text = (packaged("segmenter_pl.data.classes") / "pascal_context.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        table[int(row["id_459"])] = int(row["id"])
    return table


def read_459(path: Path) -> np.ndarray:
    """The matrix LabelMap of a .mat file: (H, W) ids 0…459. Raises: ValueError for a file without it, or damaged."""
    try:
        labels = scipy.io.loadmat(path, variable_names=["LabelMap"])["LabelMap"]
    except KeyError as error:
        raise ValueError(f"{path} holds no LabelMap: it is not of the Pascal Context labels") from error
    except Exception as error:  # SciPy meets damage with whatever its parser stumbles over
        raise ValueError(f"{path} is damaged ({error}): get {LABELS.name} again") from error
    if labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.min() < 0 or labels.max() >= IDS:
        raise ValueError(f"{path}: LabelMap holds other things than ids 0…{IDS - 1} in rows and columns")
    return labels


def write_lists(home: Path) -> list[Path]:
    """Write ImageSets/SegmentationContext/{train,val}.txt where they are missing; returns those written.

    They name what VOC's own lists (ImageSets/Main) name and has a label, in order. Raises: FileNotFoundError.
    """
    lists = {}
    for split in ("train", "val"):
        path = home / "ImageSets" / "SegmentationContext" / f"{split}.txt"
        if not path.exists():
            names = (home / "ImageSets" / "Main" / path.name).read_text().split()
            lists[path] = sorted(name for name in names if (home / CONVERTED / f"{name}.png").exists())
    for path, names in lists.items():
        with fresh(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in names))
    return [*lists]


def complete(root: Path) -> list[Path]:
    """The lists, for a copy of the user's own that has converted labels."""
    homes = [root / home for home in ("", *PascalContextDataModule.homes)]
    home = next((home for home in homes if (home / CONVERTED).is_dir()), None)
    return write_lists(home) if home else []
