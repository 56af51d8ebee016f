"""RGB-T-Glass: one zip on Google Drive."""

from collections.abc import Mapping
from pathlib import Path

from segmenter_pl.data.rgbt_glass import RGBTGlassDataModule
from segmenter_pl.prepare.recipe import Archive, Recipe, merge, pairs

FILE = "1g42XPaudslnIo1oR59FKQV9rVFOTqu_w"
PARTS = ("train", "test")
TERMS = """\
RGB-T-Glass is for research.
Who uses it cites Huo et al., "Glass Segmentation with RGB-Thermal Image Pairs", IEEE TIP 2023."""


def recipe() -> Recipe:
    """Both parts; the address answers without the page that Drive puts before large files."""
    address = f"https://drive.usercontent.google.com/download?id={FILE}&export=download&confirm=t"
    return Recipe(
        key="rgbt_glass",
        terms=TERMS,
        by_hand=f"By hand: download https://drive.google.com/file/d/{FILE}/view and give the zip with --source FILE",
        archives=(Archive("RGB-T-glass.zip", address),),
        brings=(*PARTS, *RGBTGlassDataModule.homes),
        count=pairs(RGBTGlassDataModule, ("train", "val")),
        total=5551,
        arrange=arrange,
    )


def arrange(extracted: Mapping[str, Path], tree: Path) -> None:
    """Move train and test out of whatever folders the zip has around them, also where one of them is moved already."""
    (folder,) = extracted.values()
    found = [path for part in PARTS for path in folder.rglob(part) if path.is_dir()]
    tops = [
        path.parent for path in found if all((path.parent / part).is_dir() or (tree / part).is_dir() for part in PARTS)
    ]
    if tops:
        merge(min(tops, key=lambda top: len(top.parts)), tree)
    elif not all((tree / part).is_dir() for part in PARTS):
        raise FileNotFoundError("the archive holds no folder with train and test in it")
