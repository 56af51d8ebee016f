"""Which format a file or folder has, seen by its content."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segmenter_pl.interop.blueprint import Blueprint
from segmenter_pl.interop.mmseg import read_mmseg
from segmenter_pl.interop.official import read_official
from segmenter_pl.interop.ours import CONFIG, WEIGHTS, read_folder, read_training
from segmenter_pl.interop.paddlevit import read_paddlevit
from segmenter_pl.weights.fitting import naming_of, open_containers
from segmenter_pl.weights.names import MMSEG
from segmenter_pl.weights.reading import read_file

KINDS = "a run's best.ckpt, an exported folder, an official checkpoint.pth, a .pth of MMSegmentation, a .pdparams"


def read_blueprint(
    path: str | Path, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Blueprint:
    """What a checkpoint of ours, the authors, MMSegmentation or PaddleViT describes.

    Args:
        path: a file, or the folder of an export or of an official checkpoint.
        mean, std: pixel statistics (R, G, B) in 0…1 instead of those that the format implies.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of these, cannot be read, or is not what it seems (the message says which).
    """
    path = Path(path)
    blueprint = _read_folder(path) if path.is_dir() else _read_file(path)
    given = {key: list(value) for key, value in (("mean", mean), ("std", std)) if value is not None}
    return replace(blueprint, backbone={**blueprint.backbone, **given})


def is_encoder(path: Path) -> bool:
    """Whether a file holds no whole segmenter, as far as its names tell, so that it may be an encoder alone.

    Raises: as `read_file`.
    """
    if not path.is_file():
        return False
    data = read_file(path).data
    whole = ("decode_head.", "decoder.")
    return not {"segmenter", "state_dict"} <= data.keys() and not any(
        n.startswith(whole) for n in open_containers(data)
    )


def _read_folder(folder: Path) -> Blueprint:
    if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
        return read_folder(folder)
    if (folder / "variant.yml").is_file():
        return read_official(folder / "checkpoint.pth")
    raise FileNotFoundError(
        f"checkpoint {folder} is a folder without {CONFIG} and {WEIGHTS} (an export), and without variant.yml and "
        f"checkpoint.pth (an official checkpoint): give {KINDS}"
    )


def _read_file(path: Path) -> Blueprint:
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist: give {KINDS}")
    contents = read_file(path)
    data = contents.data
    try:
        if {"segmenter", "state_dict"} <= data.keys():
            return read_training(data)
        if contents.kind == "paddle":
            return read_paddlevit(data)
        state = open_containers(data)
        if naming_of(state) is MMSEG and any(name.startswith("decode_head.") for name in state):
            return read_mmseg(data)
        if any(name.startswith("decoder.") for name in state) and "model" in data:
            return read_official(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    raise ValueError(
        f"{path} is no checkpoint of a segmenter: give {KINDS}. The weights of an encoder alone go to "
        "backbone.weights=FILE"
    )
