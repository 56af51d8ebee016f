"""What `segmenter explore` is about: the pictures and the checkpoints, and the server that shows them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from segmenter_pl.commands.inputs import Job, find
from segmenter_pl.explore.collection import Library
from segmenter_pl.explore.items import Film, FrameFolder, Item, Still
from segmenter_pl.explore.looker import Looker

INSTALL = 'the page needs Starlette and Uvicorn, which are not installed: pip install "segmenter-pl[explore]"'
SHOWN = 10  # files that are told


def samples(pictures: str, fps: float, *, video: bool) -> list[Item]:
    """What PICTURES stands for: files of the folder or pattern, and none that a link brings in from elsewhere.

    Raises: ValueError where it stands for nothing, for a camera or for an address.
    """
    found = find([pictures], Path(os.devnull), video)
    if strange := [job for job in found.jobs if isinstance(job.source, (int, str))]:
        raise ValueError(f"{strange[0]} is no file: give pictures, a video file or a folder")
    if found.missing or not found.jobs:
        raise ValueError(found.missing[0] if found.missing else f"{pictures}: holds no picture")
    outside = [] if Path(pictures).is_file() else [job for job in found.jobs if _leads_out(job)]
    if outside:
        lines = [f"Left out, as links that lead out of the folder ({len(outside)}):", *map(str, outside[:SHOWN])]
        typer.echo("\n  ".join(lines), err=True)
    items = [_item(job, fps) for job in found.jobs if job not in outside]
    if not items:
        raise ValueError(f"{pictures}: holds no picture but links that lead out of it")
    return items


def _leads_out(job: Job) -> bool:
    root = (job.root / job.name if isinstance(job.source, tuple) else job.root).resolve()
    return not all(path.resolve().is_relative_to(root) for path in job.files())


def _item(job: Job, fps: float) -> Item:
    name = str(job.name)
    if isinstance(job.source, tuple):
        return FrameFolder(name, job.source, fps)
    assert isinstance(job.source, Path)
    return Film(name, job.source, fps) if job.video else Still(name, job.source)


def serve_page(
    checkpoints: Sequence[Path], items: Sequence[Item], seeing: dict[str, Any], port: int, *, browser: bool
) -> None:
    """Load the models, say where the page is, and answer until Ctrl-C.

    Args: seeing: keywords for `Predictor`. browser: whether to open the page.
    Raises: ValueError where the web libraries are missing, the port is taken or a checkpoint cannot be read.
    """
    try:
        from segmenter_pl.explore.application import application
        from segmenter_pl.explore.serving import address, listening, open_browser, server
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise ValueError(INSTALL) from error

    library = Library(items)
    with listening(port) as listener:  # before the models are loaded: a mistake is told at once
        lookers = _lookers(checkpoints, seeing)
        print(f"{' and '.join(one.name for one in lookers)} → {address(listener)} (Ctrl-C ends it)", flush=True)
        if browser:
            open_browser(address(listener))
        try:
            server(application(lookers, library)).run(sockets=[listener])
        finally:
            library.close()


def _lookers(paths: Sequence[Path], seeing: dict[str, Any]) -> list[Looker]:
    from segmenter_pl.checkpoint import load_segmenter
    from segmenter_pl.predictor import Predictor

    return [
        Looker(name, path, Predictor(load_segmenter(path), **seeing))
        for name, path in zip(short_names(paths), paths, strict=True)
    ]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names that tell one or two checkpoints apart: with the last folder in which their paths differ, if need be."""
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    parts = [path.resolve().parts for path in paths]
    for back in range(2, min(map(len, parts)) + 1):
        if parts[0][-back] != parts[1][-back]:
            between = "/" if back == 2 else "/…/"
            return [f"{one[-back]}{between}{one[-1]}" for one in parts]
    return [path.name for path in paths]
