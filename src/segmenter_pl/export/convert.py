"""Checkpoints from one implementation's format into another's; whole segmenters, and encoders alone."""

import errno
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from segmenter_pl.checkpoint import blueprint_of
from segmenter_pl.files import fresh
from segmenter_pl.interop.blueprint import Blueprint
from segmenter_pl.interop.mmseg import write_mmseg
from segmenter_pl.interop.official import write_official
from segmenter_pl.interop.ours import PREFIX, info_of
from segmenter_pl.interop.recognition import is_encoder
from segmenter_pl.models import Segmenter
from segmenter_pl.weights.fitting import CLASSIFIER, encoder_state
from segmenter_pl.weights.names import MMSEG, VIT
from segmenter_pl.weights.reading import read_file


def convert(
    source: str | Path,
    target: Path,
    to: str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> list[Path]:
    """Write the checkpoint `source` as `target` in the format `to`; returns the files written.

    A segmenter becomes a checkpoint of ours or of MMSegmentation (one file), an official one (a folder with
    checkpoint.pth and variant.yml), or with "timm" its encoder alone. An encoder alone becomes "timm" or "mmseg"; the
    classification head is left out. `mean` and `std` are as in `load_segmenter`.

    Raises: FileNotFoundError, FileExistsError; ValueError for files that are no model, and for models that the other
        implementation does not have.
    """
    if to not in (*WHOLE, "timm"):
        raise ValueError(f"--to {to}: choose {', '.join((*WHOLE, 'timm'))}")
    if target.exists():
        raise FileExistsError(f"{target} is there already: give another name, or move it away")
    if not is_encoder(Path(source)):
        blueprint = blueprint_of(source, mean=mean, std=std)
        model = blueprint.build()  # what does not fit together is refused now, not by whoever reads it
        if to != "timm":
            return WHOLE[to](blueprint, target)
        if not isinstance(model, Segmenter):
            raise ValueError(f"--to timm is for plain ViTs; {source} holds another encoder")
        parts = ((name.removeprefix(VIT), value) for name, value in blueprint.state.items() if name.startswith(VIT))
        return _write_encoder(dict(parts), target)
    state = {name: v for name, v in encoder_state(read_file(source)).items() if not name.startswith(CLASSIFIER)}
    if to == "timm":
        return _write_encoder(state, target)
    if to == "mmseg":
        named = MMSEG.theirs({f"{VIT}{name}": value for name, value in state.items()})
        return _save({name.removeprefix("backbone."): value for name, value in named.items()}, target)
    raise ValueError(f"{source} is an encoder alone: --to timm or --to mmseg; {to} is a format of whole segmenters")


def _write_ours(blueprint: Blueprint, target: Path) -> list[Path]:
    state = {f"{PREFIX}{name}": value for name, value in blueprint.state.items()}
    return _save({"state_dict": state, "segmenter": info_of(blueprint), "global_step": 0}, target)


def _write_official(blueprint: Blueprint, target: Path) -> list[Path]:
    checkpoint, variant = write_official(blueprint)
    with fresh(target) as folder:  # both files or none
        try:
            folder.mkdir()
            (folder / "variant.yml").write_text(variant, encoding="utf-8")
            _torch_save(checkpoint, folder / "checkpoint.pth")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return [target / "checkpoint.pth", target / "variant.yml"]


def _write_mmseg(blueprint: Blueprint, target: Path) -> list[Path]:
    return _save(write_mmseg(blueprint), target)


WHOLE: dict[str, Callable[[Blueprint, Path], list[Path]]] = {
    "ours": _write_ours,
    "official": _write_official,
    "mmseg": _write_mmseg,
}


def _write_encoder(state: dict[str, Tensor], target: Path) -> list[Path]:
    if target.suffix != ".safetensors":
        return _save(state, target)
    with fresh(target) as temporary:
        temporary.write_bytes(save({name: value.contiguous() for name, value in state.items()}))
    return [target]


def _save(content: dict[str, Any], target: Path) -> list[Path]:
    with fresh(target) as temporary:
        _torch_save(content, temporary)
    return [target]


def _torch_save(content: dict[str, Any], path: Path) -> None:
    try:
        torch.save(content, path)
    except RuntimeError as error:  # in which torch wraps a full disk
        raise OSError(errno.EIO, str(error).splitlines()[0]) from error
