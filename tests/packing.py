"""Archives as the datasets' owners publish them, and `segmenter prepare` run on them."""

import hashlib
import tarfile
import zipfile
from pathlib import Path

import scipy.io
from typer.testing import CliRunner

from segmenter_pl.cli import app


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
