"""`segmenter attention-distance`: how far the heads of the encoder look."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from segmenter_pl.commands import options as o

EPILOG = """
Examples:

segmenter attention-distance best.ckpt photos/ -o distance.png
"""

Inputs = Annotated[
    list[str], Argument(metavar="INPUT", help="Pictures, folders (with all below them), quoted patterns.")
]
Out = Annotated[
    Path,
    Option("--out", "-o", help="Picture: .png, .pdf, .svg or .jpg; the numbers go to a .csv beside it."),
]


def attention_distance(
    checkpoint: o.Checkpoint,
    inputs: Inputs,
    out: Out,
    short_side: o.ShortSide = "auto",
    device: o.Device = None,
) -> None:
    """Mean attention distance of each head and layer of the encoder, averaged over pictures (Figure 7 of the paper).

    How far from a patch the patches lie that it attends to, weighted by the attention, in pixels of the picture as the
    model sees it. Class, distillation and register tokens have no place and do not count.
    """
    from segmenter_pl.faults import explained

    with explained():
        from segmenter_pl.analysis.drawing import require_possible
        from segmenter_pl.commands.inputs import find

        require_possible(out)
        length = o.short_side(short_side)
        found = find(inputs, out, video=False)
        pictures = [job.source for job in found.jobs if isinstance(job.source, Path) and not job.video]
        if found.missing or not pictures:
            raise ValueError(found.missing[0] if found.missing else f"{', '.join(inputs)}: there is no picture")
        failures = _measure(checkpoint, pictures, out, length, device)
    if failures:
        typer.echo("\n  ".join([f"Left out ({len(failures)}):", *failures]), err=True)
    raise typer.Exit(int(bool(failures)))


def _measure(
    checkpoint: Path, pictures: list[Path], out: Path, short_side: int | str | None, device: str | None
) -> list[str]:
    """Measure, write and tell; returns what could not be read."""
    from segmenter_pl.analysis.attention import require_attention
    from segmenter_pl.analysis.attention_measures import mean_distances
    from segmenter_pl.analysis.attention_plot import draw_distances, write_distances
    from segmenter_pl.analysis.seen import Seen, enough_memory
    from segmenter_pl.checkpoint import load_segmenter
    from segmenter_pl.pictures import PictureError, read_rgb
    from segmenter_pl.predictor import Predictor

    model = require_attention(load_segmenter(checkpoint))
    predictor = Predictor(model, short_side=short_side, device=device)  # type: ignore[arg-type]
    found, failures = [], []
    for path in pictures:
        try:
            seen = Seen.whole(
                read_rgb(path), predictor.settings["short_side"], model.encoder.patch_size, predictor.device
            )
        except PictureError as error:
            failures.append(str(error))
            continue
        with enough_memory(seen):
            found.append(mean_distances(model, seen.image)[0].cpu())  # (L, A)
    if not found:
        raise ValueError(f"none of the {len(pictures)} pictures can be read: {failures[0]}")
    distances = sum(found[1:], found[0]) / len(found)
    write_distances(distances, out.with_suffix(".csv"))
    draw_distances(distances, out)
    depth, heads = distances.shape
    print(f"{depth} layers of {heads} heads, {len(found)} pictures → {out}, {out.with_suffix('.csv')}")
    return failures
