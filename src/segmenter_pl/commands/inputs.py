"""What the INPUTs of `segmenter predict` stand for, and the names of what is made of them."""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

from segmenter_pl.commands.folders import VIDEOS, files_below, is_within, natural, results_below


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
    """Jobs, what is missing (as `input: reason`), and what was found but is none: `left_alone`."""

    jobs: list[Job] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_alone: list[Path] = field(default_factory=list)


def find(inputs: Sequence[str], out: Path, video: bool) -> Found:
    """Every picture and video that `inputs` name, each file once (rather by its own name than by a link's).

    Args:
        out: the folder of results; pictures in it are left alone, or a second run would segment the first one's.
        video: take a folder or a pattern as the frames of one video, and any file as a video.

    Raises: ValueError for an empty INPUT, which would be the working directory.
    """
    if not all(inputs):
        raise ValueError('an INPUT is empty (""), perhaps from a variable that is not set: give a file or a folder')
    found = Found()
    jobs = [job for text in inputs for job in _jobs(text, out, video, found)]
    chosen: dict[object, Job] = {}
    for job in jobs:
        key = job.source.resolve() if isinstance(job.source, Path) else job.source
        if key not in chosen or _links(job.source) < _links(chosen[key].source):
            chosen[key] = job
    kept = {id(job) for job in chosen.values()}
    found.jobs = [job for job in jobs if id(job) in kept]
    paths = {os.path.abspath(job.source) for job in found.jobs if isinstance(job.source, Path)}
    others = [job.source for job in jobs if isinstance(job.source, Path) and os.path.abspath(job.source) not in paths]
    found.left_alone = list(dict.fromkeys([*found.left_alone, *others]))
    return found


def _links(source: object) -> int:
    """How many links lead to a file: 0 for its real path."""
    path = Path(os.path.abspath(source)) if isinstance(source, Path) else Path()
    return sum(part.is_symlink() for part in (path, *path.parents))


def _jobs(text: str, out: Path, video: bool, found: Found) -> list[Job]:
    """The jobs of one INPUT; what is no job goes to `found`."""
    path = Path(text)
    if os.path.isdir(path):  # unlike Path's, without an error for a name that is too long
        files = files_below(path, results_below(path, out), found.left_alone, found.missing)
        if not files:
            found.missing.append(f"{path}: holds neither pictures nor videos")
        return _folder(path, path.resolve().name, files, video, found)
    if os.path.isfile(path):
        return [Job(path, Path(path.name), path.parent, video or path.suffix.lower() in VIDEOS)]
    if text.isdigit():
        return [Job(int(text), Path(f"camera-{text}"), Path(), video=True)]
    if "://" in text or re.search(r"%0?\d*d", path.name):
        name = re.sub(r"[^\w.-]+", "-", Path(urlsplit(text).path).name).strip("-.") or "stream"
        return [Job(text, Path(name), Path(), video=True)]
    if glob.has_magic(text):
        root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))
        results, files = results_below(root, out), []
        for match in map(Path, glob.glob(text, recursive=True)):
            if is_within(match, results):
                found.left_alone.append(match)
            elif match.is_dir():
                files += files_below(match, results, found.left_alone, found.missing)
            else:  # a pattern's files count whatever their suffix, as if they had been typed one by one
                files.append(match)
        if not files:
            found.missing.append(f"{text}: no file matches")
        return _folder(root, root.resolve().name, sorted(set(files), key=natural), video, found)
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
