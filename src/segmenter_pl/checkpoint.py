"""Reading models back, from checkpoints of ours and of other implementations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from segmenter_pl.data.classes import read_classes
from segmenter_pl.interop import Blueprint, read_blueprint
from segmenter_pl.interop.official import STATISTICS
from segmenter_pl.models.segmenter import EncoderDecoder
from segmenter_pl.weights.reading import read_file
from segmenter_pl.zoo import entries, fetch


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A training checkpoint of ours as plain data, tensors mapped from the file; no code in it can run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of ours, or is cut off.
    """
    data = read_file(path).data
    if not {"segmenter", "state_dict"} <= data.keys():
        raise ValueError(
            f"{path} is no checkpoint of this project: it lacks the keys segmenter and state_dict. Give one that "
            "train.py wrote"
        )
    return data


def blueprint_of(
    path: str | Path, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Blueprint:
    """As `load_segmenter`, but the description and the tensors, before a model is built of them."""
    if Path(path).exists() or str(path) not in (zoo := entries()):
        return read_blueprint(path, mean=mean, std=std)
    entry = zoo[str(path)]
    pixels = STATISTICS[entry.pixels]  # .pdparams files do not tell theirs
    blueprint = read_blueprint(fetch(entry), mean=mean or pixels["mean"], std=std or pixels["std"])
    table = resources.files("segmenter_pl.data.classes") / f"{entry.dataset}.csv"
    _, classes = read_classes(Path(str(table)))
    spec = replace(
        blueprint.spec,
        classes=classes.names,
        palette=classes.palette,
        window=entry.window,
        stride=entry.stride,
        short_side=entry.short_side,
    )
    return replace(blueprint, spec=spec)


def load_segmenter(
    path: str | Path, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> EncoderDecoder:
    """A model with its weights, in evaluation mode on the CPU, from any known format; which one is seen by its content.

    Args:
        path: a training checkpoint of ours, an exported folder, an official `checkpoint.pth` with `variant.yml` beside
            it (or their folder), a `.pth` of MMSegmentation 0.x or 1.x, a `.pdparams` of PaddleViT; or the name of a
            published model (`segmenter zoo` lists them), which is fetched into a cache.
        mean, std: pixel statistics (R, G, B) in 0…1, instead of those that the format implies.

    Returns:
        The model: a `Segmenter`, or one of those that it is compared with. `model.spec` has window, stride and short
        side, and class names and palette where the file does.

    Raises:
        FileNotFoundError: there is no such file, or a published model cannot be fetched.
        ValueError: the file is none of these, is cut off, or its tensors do not fit the model it describes.
    """
    with named(path):
        return blueprint_of(path, mean=mean, std=std).build()


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """A ValueError that comes out of the block begins with the checkpoint's path."""
    try:
        yield
    except ValueError as error:
        raise error if str(error).startswith(str(path)) else ValueError(f"{path}: {error}") from error
