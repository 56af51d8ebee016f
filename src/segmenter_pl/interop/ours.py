"""Our own formats: training checkpoints, and folders of config.json and model.safetensors that anybody may load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from segmenter_pl.interop.blueprint import Blueprint
from segmenter_pl.models import ModelSpec
from segmenter_pl.weights.reading import read_file

SOURCE = "segmenter-pl"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREFIX = "model."  # of the LightningModule's attribute


def read_training(data: Mapping[str, Any]) -> Blueprint:
    """A blueprint from a training checkpoint's content (`segmenter` and `state_dict`).

    Raises: ValueError where its description is not one of ours.
    """
    state = data["state_dict"]
    if not isinstance(state, Mapping):
        raise ValueError("its state_dict holds no tensors by name")
    own = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    return _blueprint(data["segmenter"], own)


def read_folder(folder: Path) -> Blueprint:
    """A blueprint from a folder that `save_pretrained` wrote. Raises: FileNotFoundError, ValueError."""
    try:
        info = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG} is no JSON ({error}): copy it again") from error
    return _blueprint(info, read_file(folder / WEIGHTS).data)


def _blueprint(info: Any, state: Mapping[str, Tensor]) -> Blueprint:
    try:
        config, names, palette = info["config"], info["classes"], info["palette"]
        view = {key: config["dataset"][key] for key in ("window", "stride", "short_side")}
        spec = ModelSpec(
            classes=None if names is None else tuple(str(name) for name in names),
            palette=None if palette is None else tuple((int(r), int(g), int(b)) for r, g, b in palette),
            ignore_index=info["ignore_index"],
            **view,
        )
        count = len(spec.classes) if spec.classes else int(info["num_classes"])
        return Blueprint(SOURCE, {**config["backbone"]}, {**config["decoder"]}, count, dict(state), spec, info)
    except (LookupError, TypeError, ValueError) as error:  # the keys are there, but hold something else
        raise ValueError(
            f"it does not describe its model as this project does ({error!r}): give one that train.py wrote"
        ) from error


def info_of(blueprint: Blueprint) -> dict[str, Any]:
    """What a checkpoint or config.json of ours says of a model: its training where there was one, else the least."""
    spec = blueprint.spec
    least = {
        "config": {
            "backbone": blueprint.backbone,
            "decoder": blueprint.decoder,
            "dataset": {"window": spec.window, "stride": spec.stride, "short_side": spec.short_side},
        },
        "classes": None if spec.classes is None else list(spec.classes),
        "palette": None if spec.palette is None else [list(color) for color in spec.palette],
        "ignore_index": spec.ignore_index,
        "num_classes": blueprint.num_classes,
        "source": blueprint.source,
    }
    return {**least, **blueprint.info}
