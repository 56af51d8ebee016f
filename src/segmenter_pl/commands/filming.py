"""The work of `segmenter attention` on a video."""

from contextlib import ExitStack
from pathlib import Path

from segmenter_pl.commands.attending import Looking
from segmenter_pl.commands.attention_written import file_name
from segmenter_pl.commands.inputs import Job
from segmenter_pl.commands.prediction import progress_bar
from segmenter_pl.files import fresh
from segmenter_pl.pictures import RGB
from segmenter_pl.video import FrameFiles, Frames, VideoError, VideoFile, VideoSink


def film(looking: Looking, job: Job, out: Path, fps: float, ending: str) -> tuple[str, list[str]]:
    """A video for each query; returns what to say, and what was wrong with the frames.

    Of one head the frames are overlays, of several ones sheets. Ctrl-C keeps what is written.

    Args: ending: ".mp4" or ".gif".
    """
    if isinstance(job.source, tuple):
        frames: Frames = FrameFiles(job.source, fps)
    else:
        frames = VideoFile(job.source if isinstance(job.source, int) else str(job.source), fps)
    folder = out / job.name.stem / looking.style.name
    faults, told, count = frames.faults, "", 0
    try:
        with ExitStack() as stack, progress_bar() as bar:
            task = bar.add_task(job.name.name, total=frames.count)
            sinks: dict[str, VideoSink] = {}
            try:
                for rgb in frames:
                    told = _frame(looking, rgb, folder, ending, frames.rate, sinks, stack)
                    count += 1
                    bar.advance(task)
            except KeyboardInterrupt:
                faults = [*faults, f"interrupted after {count} frames"]
            if not count:
                raise VideoError("; ".join([f"{job}: it holds no frame that can be read", *faults]))
    finally:
        frames.close()
    return f"{count} frames: {told} → {folder}", faults


def _frame(
    looking: Looking,
    rgb: RGB,
    folder: Path,
    ending: str,
    rate: float,
    sinks: dict[str, VideoSink],
    stack: ExitStack,
) -> str:
    """Write a frame of each query's video, the first into a new file; returns what is shown."""
    seen = looking.seen(rgb)
    queries = looking.queries(seen)
    for query, maps in zip(queries, looking.maps(seen, queries), strict=True):
        name = file_name(query) + ending
        if name not in sinks:
            path = stack.enter_context(fresh(folder / name))
            sinks[name] = stack.enter_context(VideoSink(path, rate))
        overlays = looking.style.overlays(seen, query, maps)
        sinks[name].write(overlays[0] if len(overlays) == 1 else looking.style.sheet(seen, query, overlays))
    return looking.told(seen, queries)
