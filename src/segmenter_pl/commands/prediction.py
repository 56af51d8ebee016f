"""The work of `segmenter predict`: one job after the other, and what to tell at the end."""

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segmenter_pl.commands.inputs import Job
from segmenter_pl.commands.outcome import Outcome
from segmenter_pl.commands.planning import Plan
from segmenter_pl.commands.written import Style, write_picture
from segmenter_pl.files import fresh
from segmenter_pl.memory import is_out_of_memory
from segmenter_pl.pictures import RGB, PictureError, read_rgb
from segmenter_pl.predictor import Labels, Predictor
from segmenter_pl.video import FrameFiles, Frames, VideoError, VideoFile, VideoSink, smoothed

INTERRUPTED = "interrupted"
NO_ROOM = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)  # what concerns one result will concern all further ones


@dataclass(frozen=True)
class VideoSettings:
    """Frames per second where the source does not tell, and the weight of the past, 0…below 1."""

    fps: float
    smooth: float


def predict_all(plan: Plan, predictor: Predictor, style: Style, video: VideoSettings, outcome: Outcome) -> None:
    """Segment every job and write its results; what cannot be read or written goes to `outcome`.

    It ends early where nothing more can be written, because the disk is full or read-only.
    """
    with progress_bar() as bar:
        task = bar.add_task("", total=len(plan))
        for number, (job, paths) in enumerate(plan, start=1):
            bar.update(task, description=job.name.name)
            try:
                if job.video:
                    _video(job, paths["overlays"], predictor, style, video, outcome, bar)
                else:
                    start = time.perf_counter()
                    _picture(job, paths, predictor, style)
                    outcome.pictures += 1
                    outcome.seconds += time.perf_counter() - start
            except (PictureError, VideoError, OSError, MemoryError, RuntimeError) as error:
                said = _said(error)
                outcome.failures.append(said if said.startswith(str(job)) else f"{job}: {said}")
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    if rest := len(plan) - number:
                        outcome.failures.append(f"{rest} more: not begun")
                    break
            except KeyboardInterrupt:
                outcome.interrupted = True
            if outcome.interrupted:
                break
            bar.advance(task)


def _picture(job: Job, paths: Mapping[str, Path], predictor: Predictor, style: Style) -> None:
    assert isinstance(job.source, Path)
    rgb = read_rgb(job.source)
    labels, probabilities = predictor.predict(rgb, torch.float16 if style.probabilities else None)
    write_picture(rgb, labels, probabilities, paths, style)


def _video(
    job: Job, path: Path, predictor: Predictor, style: Style, settings: VideoSettings, outcome: Outcome, bar: Progress
) -> None:
    frames: Frames
    if isinstance(job.source, tuple):
        frames = FrameFiles(job.source, settings.fps)
    else:
        frames = VideoFile(job.source if isinstance(job.source, int) else str(job.source), settings.fps)
    task = bar.add_task("frames", total=frames.count)
    start = time.perf_counter()
    try:
        with fresh(path) as temporary, VideoSink(temporary, frames.rate) as sink:
            end = _frames(frames, smoothed(predictor, settings.smooth), style, sink, lambda: bar.advance(task))
            if not sink.written:
                raise VideoError("; ".join([*frames.faults, end or "it holds no frame that can be read"]))
    finally:
        frames.close()
        bar.remove_task(task)
    seconds = time.perf_counter() - start
    height, width = sink.size
    outcome.lines.append(
        f"{job}: {sink.written} frames of {width}x{height} at {frames.rate:g} per second in {seconds:.1f} s "
        f"({sink.written / seconds:.1f} frames per second) → {path}"
    )
    live = not isinstance(job.source, tuple) and not os.path.isfile(str(job.source))
    outcome.interrupted = end == INTERRUPTED and not live
    faults = [*frames.faults, *([end] if end and not (live and end == INTERRUPTED) else [])]
    outcome.failures += [f"{job}: {fault} ({sink.written} frames are in {path})" for fault in faults]


def _frames(
    frames: Frames, segment: Callable[[RGB], Labels], style: Style, sink: VideoSink, advance: Callable[[], None]
) -> str:
    """Write all frames; why it ended early, or "". What was written before is kept."""
    try:
        for frame in frames:
            sink.write(style.overlay(frame, segment(frame), cut=True))
            advance()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (PictureError, MemoryError, RuntimeError) as error:
        return _said(error)
    return ""


def _said(error: Exception) -> str:
    """What to tell of an error; raises it again where it is a bug."""
    text = str(error).partition("\n")[0]
    if is_out_of_memory(error):
        return f"the memory does not suffice ({text}): try without --multiscale, or a smaller --short-side"
    if isinstance(error, RuntimeError):
        raise error
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return text


def progress_bar() -> Progress:
    """On standard error, and only if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
