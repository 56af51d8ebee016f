"""Pictures and videos below a folder, apart from the results of earlier runs."""

import os
import re
from collections.abc import Sequence
from pathlib import Path


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


PICTURES = _suffixes(
    "jpg jpeg jpe jfif png apng bmp dib tif tiff webp avif heic heif gif jp2 j2k ppm pgm pbm pnm tga pcx"
)
VIDEOS = _suffixes("mp4 m4v mov avi mkv webm mpg mpeg ts mts m2ts wmv asf flv ogv 3gp mjpeg mjpg y4m vob")
RESULTS = ("labels", "overlays", "probabilities")  # folders in OUT


def results_below(root: Path, out: Path) -> list[Path]:
    """Resolved folders or files that an earlier run made in `out`, but for those that hold `root`: they are meant."""
    root, out = root.resolve(), out.resolve()
    places = [out] if root != out and out.is_relative_to(root) else [out / name for name in RESULTS]
    return [place for place in places if not root.is_relative_to(place)]


def is_within(path: Path, places: Sequence[Path]) -> bool:
    """Whether a path lies in one of some resolved places, also through links."""
    resolved = path.resolve() if places else path
    return any(resolved.is_relative_to(place) for place in places)


def files_below(folder: Path, results: Sequence[Path], left_alone: list[Path], missing: list[str]) -> list[Path]:
    """Pictures and videos below a folder, also through links, but for hidden ones and those in `results`.

    Real folders come before links to them. What is no job goes to `left_alone` and `missing`, see `inputs.Found`.
    """
    files: list[Path] = []
    visited: set[Path] = set()
    todo = [folder]

    def unreadable(error: OSError) -> None:
        missing.append(f"{error.filename}: cannot be opened ({error.strerror})")

    while todo:
        for place, folders, names in os.walk(todo.pop(0), onerror=unreadable):
            here = Path(place)
            if here.resolve() in visited:
                left_alone.append(here)
                folders.clear()
                continue
            visited.add(here.resolve())
            left_alone += [here / name for name in folders if name.startswith(".")]
            folders[:] = [name for name in folders if not name.startswith(".")]
            todo += sorted(here / name for name in folders if (here / name).is_symlink())  # walk() leaves them out
            for path in (here / name for name in names):
                wanted = path.suffix.lower() in PICTURES | VIDEOS and not path.name.startswith(".")
                (files if wanted and not is_within(path, results) else left_alone).append(path)
    return sorted(files, key=natural)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A key by which frame2 comes before frame10."""
    pieces = re.findall(r"\d+|\D+", str(path))
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]
