"""Archives as the datasets' owners publish them, and `segmenter prepare` run on them."""

import hashlib
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from typer.testing import CliRunner

from segmenter_pl.cli import app
from tests import layouts


def prepare(*words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    done = CliRunner().invoke(app, ["prepare", *map(str, words)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def zipped(path: Path, folder: Path, *parts: str, more: dict[str, bytes] | None = None) -> Path:
    """A zip of some of a folder's entries, and of `more`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in parts:
            for file in sorted((folder / part).rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(folder))
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return path


def pascal_archives(folder: Path, tree: Path, ids: dict[str, dict]) -> None:
    """VOC 2010 with its lists, pictures of `tree`, and .mat labels `ids` (split → name → (H, W) of 0…459)."""
    home, archives = tree / "VOCdevkit/VOC2010", folder
    archives.mkdir(parents=True, exist_ok=True)
    (home / "ImageSets/Main").mkdir(parents=True)
    for split, labels in ids.items():
        names = [*labels, f"2009_00{len(split)}"]  # one without a label
        (home / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(reversed(names)) + "\n")
        for name, label in labels.items():
            path = folder / "trainval" / f"{name}.mat"
            path.parent.mkdir(exist_ok=True)
            scipy.io.savemat(path, {"LabelMap": label}, do_compression=True)
    with tarfile.open(archives / "VOCtrainval_03-May-2010.tar", "w") as tar:
        for part in ("JPEGImages", "ImageSets/Main"):
            tar.add(home / part, f"VOCdevkit/VOC2010/{part}")
    with tarfile.open(archives / "trainval.tar.gz", "w:gz") as tar:
        tar.add(folder / "trainval", "trainval")


def tree_of(root: Path) -> dict[str, str]:
    """Every file below a folder with a digest of its content, hidden ones too; empty folders as well."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
    }


def ade20k(folder: Path) -> list[Path]:
    layouts.ade20k(folder / "tree")
    return [zipped(folder / "ADEChallengeData2016.zip", folder / "tree", "ADEChallengeData2016", more=BULK)]


def pascal_context(folder: Path) -> list[Path]:
    rng, tree, size = np.random.default_rng(0), folder / "tree", (24, 32)
    splits = {"train": ["2008_000002", "2008_000007"], "val": ["2008_000003"]}
    for name in (*splits["train"], *splits["val"]):
        layouts.save(tree / "VOCdevkit/VOC2010/JPEGImages" / f"{name}.jpg", layouts.picture(rng, size))
    layouts.save(tree / "VOCdevkit/VOC2010/JPEGImages/noise.jpg", rng.integers(0, 256, (160, 160, 3), dtype=np.uint8))
    ids = {s: {n: rng.integers(0, 460, size).astype(np.uint16) for n in names} for s, names in splits.items()}
    pascal_archives(folder / "archives", tree, ids)
    return [path for path in (folder / "archives").iterdir() if path.is_file()]


def cityscapes(folder: Path) -> list[Path]:
    layouts.cityscapes(folder / "tree")
    parts = ("leftImg8bit", "gtFine")
    return [zipped(folder / f"{part}_trainvaltest.zip", folder / "tree", part, more=BULK) for part in parts]


def rgbt_glass(folder: Path) -> list[Path]:
    layouts.rgbt_glass(folder / "tree")
    return [zipped(folder / "RGB-T-glass.zip", folder / "tree", "train", "test", more=BULK)]


# Small archives as the owners lay them out; what they need not have is large enough to fill a small disk.
BULK = {"README": np.random.default_rng(0).bytes(60_000)}
ARCHIVES: dict[str, Callable[[Path], list[Path]]] = {
    "ade20k": ade20k,
    "pascal_context": pascal_context,
    "cityscapes": cityscapes,
    "rgbt_glass": rgbt_glass,
}
