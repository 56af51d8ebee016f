"""`segmenter accuracy`: the ImageNet column of the paper's Table 3."""

import json
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

EPILOG = """
Examples:

segmenter accuracy vit_t16 --imagenet /data/imagenet

segmenter accuracy vit_b8 --imagenet /data/imagenet --resize 256 -o runs/imagenet/vit_b8.json

segmenter accuracy vit_tiny_patch16_224.augreg_in21k_ft_in1k --weights vit_tiny.npz --imagenet /data/imagenet
"""

Backbone = Annotated[str, Argument(metavar="BACKBONE", help="An option of backbone=, or a name of timm's.")]
ImageNet = Annotated[
    Path, Option("--imagenet", metavar="DIR", help="Folder with val/n01440764/… for all 1000 classes.")
]
Weights = Annotated[
    Path | None, Option(help="File with the classification head; by default timm's from the hub.", show_default=False)
]
Resize = Annotated[
    int | None,
    Option(
        min=1,
        help="Short side in pixels before the centre crop; by default as timm says for the model. The official code: "
        "the input's side + 32.",
        show_default=False,
    ),
]
BatchSize = Annotated[int, Option("--batch-size", min=1, help="Pictures at once.")]
Workers = Annotated[int, Option("--workers", min=0, help="Processes that read.")]
Device = Annotated[str | None, Option(help="cpu, cuda, cuda:1 …; by default an accelerator if there is one.")]
Out = Annotated[
    Path | None,
    Option(
        "--out",
        "-o",
        help="JSON file for the numbers; `segmenter results --paper table3` shows those in a folder named imagenet "
        "below its RUNS.",
        show_default=False,
    ),
]


def accuracy(
    backbone: Backbone,
    imagenet: ImageNet,
    weights: Weights = None,
    resize: Resize = None,
    batch_size: BatchSize = 32,
    workers: Workers = 4,
    device: Device = None,
    out: Out = None,
) -> None:
    """Classify ImageNet's validation pictures with a backbone and its own head, and count what is right.

    A picture is resized, cropped at its centre and normalised as timm says for the model. Fractions, not per cent.
    """
    from segmenter_pl.faults import explained

    try:
        with explained():
            _measure(backbone, imagenet, weights, resize, batch_size, workers, device, out)
    except KeyboardInterrupt:
        print("Stopped: nothing was written")
        raise typer.Exit(130) from None


def _measure(
    backbone: str,
    imagenet: Path,
    weights: Path | None,
    resize: int | None,
    batch_size: int,
    workers: int,
    device: str | None,
    out: Path | None,
) -> None:
    import torch

    from segmenter_pl.analysis.imagenet import (
        ImageNetVal,
        classifier,
        evaluation_transform,
        measure,
        pictures_of_imagenet,
        timm_name,
    )
    from segmenter_pl.files import fresh
    from segmenter_pl.prepare.progress import progress

    samples = pictures_of_imagenet(imagenet)  # before weights are loaded from far away
    model = classifier(backbone, weights)
    data = ImageNetVal(samples, evaluation_transform(model, resize))
    if device is None:
        device = str(torch.accelerator.current_accelerator() or "cpu") if torch.accelerator.is_available() else "cpu"
    with progress("classifying", len(data), files=True) as advance:
        found = measure(model, data, batch_size=batch_size, workers=workers, device=device, advance=advance)
    print(
        f"{backbone} ({timm_name(backbone)}): top-1 {found.top1:.4f} ({found.correct1} of {found.pictures}), "
        f"top-5 {found.top5:.4f} ({found.correct5} of {found.pictures}){_published(backbone, found.top1)}"
    )
    if out is not None:
        record = {"backbone": backbone, "timm": timm_name(backbone), "top1": found.top1, "top5": found.top5}
        record |= {"correct1": found.correct1, "correct5": found.correct5, "pictures": found.pictures}
        with fresh(out) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _published(backbone: str, top1: float) -> str:
    """The paper's number, where it has one for this backbone."""
    from segmenter_pl.analysis.published import published_rows

    for row in published_rows():
        if row.backbone == backbone and "imagenet_top1" in row.values:
            stated = row.values["imagenet_top1"]
            return f"; published {stated:.4f}, {top1 - stated:+.4f}"
    return ""
