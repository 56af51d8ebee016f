"""`segmenter convert`: checkpoints in another implementation's format."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

EPILOG = """
Examples:

segmenter convert checkpoint.pth model.ckpt --to ours     (official, with variant.yml beside it)

segmenter convert best.ckpt official/ --to official

segmenter convert deit.pdparams official/ --to official --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225

segmenter convert Ti_16-i21k-300ep.npz vit_tiny.pth --to mmseg     (an encoder alone)
"""


class To(StrEnum):
    """Whose format."""

    ours = "ours"
    official = "official"
    mmseg = "mmseg"
    timm = "timm"


Source = Annotated[
    str,
    Argument(
        metavar="IN",
        help="A checkpoint of ours, the official code, MMSegmentation or PaddleViT, an export, a published model's "
        "name; or an encoder alone: .npz, timm's .safetensors or .pth.",
    ),
]
Target = Annotated[Path, Argument(metavar="OUT", help="A new file; for [b]official[/b] a new folder.")]
Three = tuple[float, float, float]
Mean = Annotated[
    Three | None, Option(metavar="R G B", help="Pixel statistics in 0…1, where IN does not tell them (.pdparams: 0.5).")
]
Std = Annotated[Three | None, Option(metavar="R G B")]


def convert(
    source: Source,
    target: Target,
    to: Annotated[To, Option(help="Whose format; timm: the encoder alone.")],
    mean: Mean = None,
    std: Std = None,
) -> None:
    """Write a checkpoint in another implementation's format.

    Every tensor that the model uses is kept bit by bit. What the other format does not hold (pixel statistics, the
    epsilon of LayerNorms, how positions are resized) follows its own rules there; how far that moves the model's output
    is measured and told.
    """
    from segmenter_pl.export.convert import convert as write
    from segmenter_pl.faults import explained

    with explained():
        files = write(source, target, to, mean=mean, std=std)
        print(f"Written: {', '.join(map(str, files))}")
        if to in ("ours", "official", "mmseg"):
            _tell_difference(source, files[0], mean, std)


def _tell_difference(source: str, written: Path, mean: Three | None, std: Three | None) -> None:
    import torch

    from segmenter_pl.checkpoint import load_segmenter
    from segmenter_pl.models import Segmenter

    try:
        before = load_segmenter(source, mean=mean, std=std)
    except ValueError:  # an encoder alone
        return
    after = load_segmenter(written)
    assert before.spec is not None
    size = [before.spec.window] * 2
    if isinstance(before, Segmenter):  # the one its position table is stored for
        size = [side * before.encoder.patch_size for side in before.encoder.vit.patch_embed.grid_size]
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = before(images), after(images)
    print(
        f"Read back, its logits differ by at most {(expected - found).abs().max():.2g} (largest logit "
        f"{expected.abs().max():.3g})"
    )
