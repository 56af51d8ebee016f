"""`segmenter predict`: label maps and overlays of pictures and videos."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segmenter_pl.commands import options as o

if TYPE_CHECKING:
    from segmenter_pl.commands.outcome import Outcome
    from segmenter_pl.commands.planning import Plan

EPILOG = """
Examples:

segmenter predict best.ckpt photo.jpg -o out

segmenter predict best.ckpt photos/ -o out --legend --multiscale --flip

segmenter predict best.ckpt "photos/**/*_left.png" -o out --save-probabilities

segmenter predict best.ckpt drive.mp4 -o drive_segmented.mp4 --smooth 0.6

segmenter predict best.ckpt frames/ --video --fps 24 -o clip.gif

segmenter predict best.ckpt 0 -o out     (the first camera, until Ctrl-C)
"""


def predict(
    checkpoint: o.Checkpoint,
    inputs: o.Inputs,
    out: o.Out,
    multiscale: o.Multiscale = False,
    flip: o.Flip = False,
    window: o.Window = None,
    stride: o.Stride = None,
    short_side: o.ShortSide = "auto",
    device: o.Device = None,
    precision: o.ModelPrecision = o.Precision.float32,
    alpha: o.Alpha = 0.5,
    overlay: o.OverlayType = o.Overlay.jpg,
    legend: o.Legend = False,
    save_probabilities: o.SaveProbabilities = False,
    any_size: o.AnySize = False,
    video: o.Video = False,
    smooth: o.Smooth = 0.0,
    fps: o.Fps = 25.0,
) -> None:
    """Segment pictures and videos with a trained model.

    A picture gives labels/NAME.png (class ids, shown in the dataset's colours) and overlays/NAME.jpg in OUT, a video
    overlays/NAME.mp4 (without sound). Names and sub-folders are kept.

    What cannot be read or written is listed at the end; all else is done, and the exit code is 1.
    """
    from segmenter_pl.commands.inputs import find
    from segmenter_pl.commands.outcome import Outcome, tell
    from segmenter_pl.commands.planning import planned
    from segmenter_pl.faults import explained

    look = {"multiscale": multiscale, "flip": flip, "window": window, "stride": stride, "device": device}
    style = {"alpha": alpha, "legend": legend, "probabilities": save_probabilities}
    with explained():
        look |= {"short_side": o.short_side(short_side), "precision": str(precision)}
        found = find(inputs, out, video)
        if smooth and not any(job.video for job in found.jobs):
            raise ValueError(f"--smooth {smooth} averages over the frames of a video, and no INPUT is one (--video?)")
        plan = planned(found.jobs, inputs, out, f".{overlay}", save_probabilities)
        outcome = Outcome()
        try:
            if plan:
                _work(checkpoint, plan, look, style, fps, smooth, any_size, outcome)
        finally:  # also where a bug ends it: hours of work may be done
            code = tell(outcome, found, out)
    raise typer.Exit(code)


def _work(
    checkpoint: Path,
    plan: "Plan",
    look: dict[str, Any],
    style: dict[str, Any],
    fps: float,
    smooth: float,
    any_size: bool,
    outcome: "Outcome",
) -> None:
    """Load the model and do what is planned; `look` is for `Predictor`, `style` for `Style`."""
    from contextlib import nullcontext

    from segmenter_pl.checkpoint import load_segmenter
    from segmenter_pl.commands.prediction import VideoSettings, predict_all
    from segmenter_pl.commands.written import Style
    from segmenter_pl.pictures import without_limit
    from segmenter_pl.predictor import Predictor

    predictor = Predictor(load_segmenter(checkpoint), **look)
    with without_limit() if any_size else nullcontext():
        predict_all(plan, predictor, Style.of(predictor, **style), VideoSettings(fps, smooth), outcome)
