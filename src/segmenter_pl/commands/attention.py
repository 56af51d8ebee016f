"""`segmenter attention`: where the model looks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segmenter_pl.commands import attention_options as a
from segmenter_pl.commands import options as o

if TYPE_CHECKING:
    from segmenter_pl.commands.inputs import Job

EPILOG = """
Examples:

segmenter attention best.ckpt photo.jpg out --layer -1 --pixel 320 200

segmenter attention best.ckpt photo.jpg out --layer 1 --layer 4 --layer 8 --layer 11 --pixel 320 200 --head mean

segmenter attention best.ckpt photo.jpg out --layer 11 --cls --head mean --cmap inferno

segmenter attention best.ckpt photo.jpg out --dec --layer 1 --class car --class road

segmenter attention best.ckpt photo.jpg out --dec --layer 1 --class car --rollout

segmenter attention best.ckpt drive.mp4 out --layer -1 --cls --head mean

segmenter attention checkpoint.pth photo.jpg out --layer-id 0 --x-patch 0 --y-patch 21 --enc --layout official
"""


def attention(
    checkpoint: o.Checkpoint,
    image: a.Image,
    out: a.Out,
    encoder: a.Encoder = True,
    layer_id: a.LayerId = None,
    head: a.Head = None,
    rollout: a.Rollout = False,
    x_patch: a.XPatch = None,
    y_patch: a.YPatch = None,
    pixel: a.Pixel = None,
    cls: a.ClassToken = False,
    classes: a.Class = None,
    cmap: a.Cmap = "viridis",
    alpha: a.Alpha = 0.7,
    clip: a.Clip = 99,
    layout: a.LayoutOption = a.Layout.overlays,
    save_weights: a.SaveWeights = False,
    short_side: o.ShortSide = "auto",
    device: o.Device = None,
    video: o.Video = False,
    fps: o.Fps = 25.0,
    gif: a.Gif = False,
) -> None:
    """Show what a patch, the class token or a class attends to, in any layer and head.

    The model sees the whole picture at once, brought to the training's short side. OUT/NAME/LAYER/WHO/ gets an overlay
    for each head and all.png with all of them; of several layers or classes OUT/NAME/overview.png has everything. A
    video gives OUT/NAME/LAYER/WHO.mp4. The colours of each map span its own weights.
    """
    from segmenter_pl.faults import explained

    official = layout is a.Layout.official
    with explained():
        a.require_agreeing(
            encoder=encoder, cls=cls, x_patch=x_patch, y_patch=y_patch, pixel=pixel, classes=classes, heads=head,
            rollout=rollout, official=official,
        )  # fmt: skip
        length = o.short_side(short_side)
        job = _job(image, out, video)
        layers = list(dict.fromkeys(layer_id or [0]))
        _require_fitting(job, layers, official=official, save_weights=save_weights, gif=gif)
        who = {"cls": cls, "classes": classes, "pixel": pixel, "patch": (x_patch or 0, y_patch or 0)}
        look = {"layers": layers, "heads": head or [], "rollout": rollout, "encoder": encoder}
        style = {"cmap": cmap, "alpha": alpha, "clip": clip, "weights": save_weights}
        said, faults = _work(checkpoint, job, out, who, look, style, (length, device), official, (fps, gif))
    print(said)
    if faults:
        typer.echo("\n  ".join(["Not read to the end:", *faults]), err=True)
    raise typer.Exit(int(bool(faults)))


def _job(image: str, out: Path, video: bool) -> "Job":
    """The one picture or video that IMAGE names. Raises ValueError."""
    from segmenter_pl.commands.inputs import find

    if Path(image).is_dir() and not video:
        raise ValueError(f"{image} is a folder: give one picture, or --video to take it as the frames of a video")
    found = find([image], out, video)
    if found.missing or not found.jobs:
        raise ValueError(found.missing[0] if found.missing else f"{image}: holds no picture")
    if len(found.jobs) > 1:
        raise ValueError(f"{image} stands for {len(found.jobs)} pictures: give one")
    if out.exists() and not out.is_dir():
        raise ValueError(f"OUT {out} is a file: give a folder")
    return found.jobs[0]


def _require_fitting(job: "Job", layers: list[int], *, official: bool, save_weights: bool, gif: bool) -> None:
    """Raises ValueError where options do not fit a picture or a video."""
    if job.video and (official or save_weights):
        raise ValueError(f"{job} is a video: leave out {'--layout official' if official else '--save-weights'}")
    if job.video and len(layers) > 1:
        raise ValueError(f"{job} is a video: give one --layer, not {len(layers)}")
    if gif and not job.video:
        raise ValueError(f"{job} is a picture, and --gif is for videos: leave it out")


def _work(
    checkpoint: Path,
    job: "Job",
    out: Path,
    who: dict[str, Any],
    look: dict[str, Any],
    style: dict[str, Any],
    seeing: tuple[int | str | None, str | None],
    official: bool,
    film_as: tuple[float, bool],
) -> tuple[str, list[str]]:
    """Load the model, look, write; returns what to say, and what was wrong with a video."""
    from segmenter_pl.analysis.attention_drawing import require_color_map

    require_color_map(style["cmap"])
    from segmenter_pl.checkpoint import load_segmenter
    from segmenter_pl.commands.attending import Looking, picture
    from segmenter_pl.commands.filming import film
    from segmenter_pl.predictor import Predictor

    predictor = Predictor(load_segmenter(checkpoint), short_side=seeing[0], device=seeing[1])  # type: ignore[arg-type]
    lookings = [Looking(predictor, who, {**look, "layer_id": layer}, style) for layer in look["layers"]]
    if job.video:
        fps, gif = film_as
        return film(lookings[0], job, out, fps, ".gif" if gif else ".mp4")
    lookings = list({looking.style.layer: looking for looking in lookings}.values())  # -1 may have been named twice
    return picture(lookings, job, out, official=official), []
