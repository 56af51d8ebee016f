"""Reading models back: from our training checkpoints and from the official implementation's."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import yaml

from segmenter_pl.factory import segmenter_from_config
from segmenter_pl.interop.official import load_official
from segmenter_pl.models.segmenter import ModelSpec, Segmenter
from segmenter_pl.models.weights import require_match


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A training checkpoint of ours as plain data, tensors mapped from the file; no code in it can run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of ours, or is cut off.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder without variant.yml" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"checkpoint {path} {what}: give a run's checkpoints/best.ckpt or last.ckpt, or an official checkpoint.pth"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(_unreadable(path, error)) from error
    if not isinstance(checkpoint, dict) or not {"segmenter", "state_dict"} <= checkpoint.keys():
        raise ValueError(
            f"{path} is no checkpoint of this project: it lacks the keys segmenter and state_dict. Give one that "
            "train.py wrote; an official checkpoint needs its variant.yml beside it."
        )
    return checkpoint


def _unreadable(path: Path, error: Exception) -> str:
    # Only the first words: torch goes on with advice to load the file without its protection.
    reason = f"{type(error).__name__}: {error}".partition(". ")[0].splitlines()[0]
    return f"{path} cannot be read as a checkpoint (cut off, or not one): copy it again, or give another ({reason})"


def load_segmenter(path: str | Path) -> Segmenter:
    """A model with its weights, in evaluation mode.

    Args:
        path: a training checkpoint of ours (`.ckpt`), or an official `checkpoint.pth` (or its folder) with
            `variant.yml` beside it.

    Returns:
        The model; `model.spec` has class names, palette, ignore index, window, stride and short side.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none of these, is cut off, or its tensors do not fit the model it describes.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if (folder / "variant.yml").is_file():
        try:
            return load_official(path)
        except (EOFError, LookupError, RuntimeError, TypeError, UnpicklingError, yaml.YAMLError) as error:
            raise ValueError(_unreadable(path, error)) from error
    checkpoint = read_checkpoint(path)
    try:
        return model_from_checkpoint(checkpoint)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (LookupError, TypeError) as error:  # the two keys are there, but hold something else
        raise ValueError(
            f"{path} does not describe its model as this project does ({error!r}): give one that train.py wrote"
        ) from error


def model_from_checkpoint(checkpoint: Mapping[str, Any]) -> Segmenter:
    """Build the model that `read_checkpoint`'s data describes and give it its weights.

    Raises:
        ValueError: the tensors do not fit that model. KeyError: there is no such description.
    """
    info = checkpoint["segmenter"]
    dataset = info["config"]["dataset"]
    model = segmenter_from_config(info["config"], num_classes=len(info["classes"]))
    prefix = "model."
    state = {key.removeprefix(prefix): v for key, v in checkpoint["state_dict"].items() if key.startswith(prefix)}
    require_match(model.state_dict(), state, "the checkpoint")
    model.load_state_dict(state)
    model.spec = ModelSpec(
        classes=tuple(info["classes"]),
        palette=tuple((r, g, b) for r, g, b in info["palette"]),
        ignore_index=info["ignore_index"],
        window=dataset["window"],
        stride=dataset["stride"],
        short_side=dataset["short_side"],
    )
    return model.eval()
