"""Folders that anybody may load: model.safetensors, config.json and a model card; on this disk or on the hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors.torch import save

from segmenter_pl.checkpoint import load_segmenter
from segmenter_pl.export.card import model_card
from segmenter_pl.files import fresh
from segmenter_pl.interop import Blueprint
from segmenter_pl.interop.ours import CONFIG, WEIGHTS, info_of
from segmenter_pl.models import EncoderDecoder

CARD = "README.md"


def save_pretrained(
    model: EncoderDecoder | Blueprint, folder: str | Path, results: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write a folder that `load_segmenter` and `from_pretrained` read; returns its files.

    Args:
        model: with `config` and `spec`, as `load_segmenter` gives it; or what `interop.read_blueprint` gives, which
            also knows the training.
        results: content of a run's or an evaluation's results.json, for the model card.

    Raises: FileExistsError for a folder that holds something else than an earlier export; ValueError for a model
        without its settings.
    """
    folder = Path(folder)
    names = (WEIGHTS, CONFIG, CARD)
    if folder.exists() and (not folder.is_dir() or any(path.name not in names for path in folder.iterdir())):
        raise FileExistsError(f"{folder} holds other things: give a new folder, or an empty one")
    blueprint = model if isinstance(model, Blueprint) else Blueprint.of(model)
    info = json.dumps(info_of(blueprint), indent=2, default=str)
    with fresh(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save({name: value.contiguous() for name, value in blueprint.state.items()}))
    with fresh(folder / CARD) as temporary:
        temporary.write_text(model_card(blueprint, results or {}), encoding="utf-8")
    with fresh(folder / CONFIG) as temporary:  # the last: with it the folder is one
        temporary.write_text(info + "\n", encoding="utf-8")
    saved, expected = load_segmenter(folder).state_dict(), blueprint.state
    if odd := [name for name, value in expected.items() if not torch.equal(saved[name], value.to(saved[name].dtype))]:
        raise ValueError(f"{folder / WEIGHTS} does not give back {odd[0]}: the disk, or the model, is spoilt")
    return [folder / name for name in names]


def from_pretrained(name: str | Path, *, revision: str | None = None) -> EncoderDecoder:
    """A model from a folder of `save_pretrained`, or from the hub's repository USER/NAME, through its cache.

    Raises: FileNotFoundError where it is neither a folder nor to be had from the hub; ValueError as `load_segmenter`.
    """
    if Path(name).is_dir():
        return load_segmenter(name)
    try:
        folder = huggingface_hub.snapshot_download(
            str(name), revision=revision, allow_patterns=[CONFIG, WEIGHTS], etag_timeout=4
        )
    except Exception as error:  # connection, proxy, offline mode, no such repository: the way out is the same
        raise FileNotFoundError(
            f"{name} is no folder, and cannot be fetched from the Hugging Face hub ({type(error).__name__}): check the "
            "name, or give the folder of an export"
        ) from error
    return load_segmenter(folder)


def push_to_hub(folder: str | Path, repository: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload the folder of an export to the hub's repository USER/NAME, which is made if need be; returns its address.

    The token is that of `hf auth login`, unless given.

    Raises: FileNotFoundError for a folder that is no export; ConnectionError where the hub is out of reach or refuses.
    """
    folder = Path(folder)
    if not all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        raise FileNotFoundError(f"{folder} is no export (it lacks {CONFIG} or {WEIGHTS}): make one first")
    api = huggingface_hub.HfApi(token=token)
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=[CONFIG, WEIGHTS, CARD])
    except Exception as error:  # network, name, rights: of many classes
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ConnectionError(
            f"{folder} cannot be uploaded to {repository} ({reason}): check the name USER/NAME, the network, and "
            "`hf auth login`"
        ) from error
    return str(address)
