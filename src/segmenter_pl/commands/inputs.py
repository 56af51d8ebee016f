"""What the INPUTs of `segmenter predict` stand for, and the names of what is made of them."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


PICTURES = _suffixes(
    "jpg jpeg jpe jfif png apng bmp dib tif tiff webp avif heic heif gif jp2 j2k ppm pgm pbm pnm tga pcx"
)
VIDEOS = _suffixes("mp4 m4v mov avi mkv webm mpg mpeg ts mts m2ts wmv asf flv ogv 3gp mjpeg mjpg y4m vob")


@dataclass(frozen=True)
class Job:
    """One picture or video.

    Attributes:
        source: a file, a camera's number, anything else that OpenCV opens, or the files of a video's frames.
        name: path below the folder it was found from, with suffix. root: that folder.
    """

    source: Path | int | str | tuple[Path, ...]
    name: Path
    root: Path
    video: bool

    def names(self) -> tuple[Path, ...]:
        """Paths for its results, without their suffix: the first that no other job has is taken."""
        somewhere = Path(*(self.root / self.name).resolve().parts[1:])
        short = self.name.with_suffix("") if isinstance(self.source, (Path, str)) else self.name
        return short, self.name, Path(self.root.resolve().name) / self.name, somewhere

    def __str__(self) -> str:
        return str(self.root / self.name if isinstance(self.source, tuple) else self.source)

    def files(self) -> Iterable[Path]:
        """The files it reads."""
        return self.source if isinstance(self.source, tuple) else [Path(str(self.source))]


@dataclass
class Found:
    """Jobs, what is missing (as `input: reason`), and the files in folders that are neither pictures nor videos."""

    jobs: list[Job] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_alone: list[Path] = field(default_factory=list)


def find(inputs: Sequence[str], out: Path, video: bool) -> Found:
    """Every picture and video that `inputs` name, each file once, in natural order.

    Args:
        out: the folder of results; pictures in it are left alone, or a second run would segment the first one's.
        video: take a folder or a pattern as the frames of one video, and any file as a video.
    """
    found, seen = Found(), set()
    for text in inputs:
        for job in _jobs(text, out, video, found):
            key = job.source.resolve() if isinstance(job.source, Path) else job.source
            if key not in seen:
                seen.add(key)
                found.jobs.append(job)
    return found


def _jobs(text: str, out: Path, video: bool, found: Found) -> list[Job]:
    """The jobs of one INPUT; what is no job goes to `found`."""
    path = Path(text)
    if path.is_dir():
        return _folder(path, path.resolve().name, _files(path, out, found), video, found)
    if path.is_file():
        return [Job(path, Path(path.name), path.parent, video or path.suffix.lower() in VIDEOS)]
    if text.isdigit():
        return [Job(int(text), Path(f"camera-{text}"), Path(), video=True)]
    if "://" in text or re.search(r"%0?\d*d", path.name):
        name = re.sub(r"[^\w.-]+", "-", Path(urlsplit(text).path).name).strip("-.") or "stream"
        return [Job(text, Path(name), Path(), video=True)]
    if glob.has_magic(text):
        root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))
        files: list[Path] = []
        for match in map(Path, glob.glob(text, recursive=True)):
            # A pattern's files count whatever their suffix, as if they had been typed one by one.
            files += _files(match, out, found) if match.is_dir() else [match]
        if not files:
            found.missing.append(f"{text}: no file matches")
        return _folder(root, root.resolve().name, sorted(files, key=natural), video, found)
    if video:
        return [Job(text, Path(re.sub(r"[^\w.-]+", "-", text)), Path(), video=True)]
    found.missing.append(f"{text}: does not exist")
    return []


def _folder(root: Path, name: str, files: list[Path], video: bool, found: Found) -> list[Job]:
    """The files below a folder as jobs of their own, or as the frames of one video."""
    if not video:
        return [Job(path, path.relative_to(root), root, path.suffix.lower() in VIDEOS) for path in files]
    frames = tuple(path for path in files if path.suffix.lower() not in VIDEOS)
    found.left_alone += [path for path in files if path.suffix.lower() in VIDEOS]
    if not frames and not found.missing:
        found.missing.append(f"{root}: holds no pictures to make a video of")
    return [Job(frames, Path(name), root.parent, video=True)] if frames else []


def _files(folder: Path, out: Path, found: Found) -> list[Path]:
    """Pictures and videos below a folder, also through links, but for hidden ones and earlier results below `out`."""
    files: list[Path] = []
    visited: set[Path] = set()
    results = out.resolve() if out.resolve().is_relative_to(folder.resolve()) else None

    def unreadable(error: OSError) -> None:
        found.missing.append(f"{error.filename}: cannot be opened ({error.strerror})")

    for place, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        here = Path(place)
        if here.resolve() in visited:
            folders.clear()
            continue
        visited.add(here.resolve())
        for path in (here / name for name in names):
            wanted = path.suffix.lower() in PICTURES | VIDEOS and not path.name.startswith(".")
            inside = results is not None and path.resolve().is_relative_to(results)
            (files if wanted and not inside else found.left_alone).append(path)
    if not files:
        found.missing.append(f"{folder}: holds neither pictures nor videos")
    return sorted(files, key=natural)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A key by which frame2 comes before frame10."""
    pieces = re.findall(r"\d+|\D+", str(path))
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def result_names(jobs: Sequence[Job]) -> list[Path]:
    """One path per job, without the result's suffix; no two are equal, also where capitals do not count.

    Jobs that would have the same name keep their suffix in it (a.jpg.png), then their folder, then their whole path.
    """
    choices = [job.names() for job in jobs]
    level = [0] * len(jobs)
    while True:
        names = [options[i] for options, i in zip(choices, level, strict=True)]
        count = Counter(str(name).casefold() for name in names)
        clashing = [i for i, name in enumerate(names) if count[str(name).casefold()] > 1]
        movable = [i for i in clashing if level[i] < len(choices[i]) - 1]
        if not movable:
            break
        for i in movable:
            level[i] += 1
    # Left are streams of one name, and files that differ by capitals alone.
    return [name.with_name(f"{name.name}-{i}") if i in clashing else name for i, name in enumerate(names)]
