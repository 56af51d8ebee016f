"""Reading models back: from our training checkpoints and from the official implementation's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from segmenter_pl.factory import segmenter_from_config
from segmenter_pl.interop.official import load_official
from segmenter_pl.models.segmenter import ModelSpec, Segmenter


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A training checkpoint of ours as plain data, tensors mapped from the file; no code in it can run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of ours, or is cut off.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; a run writes checkpoints/best.ckpt and last.ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a checkpoint (cut off, or not one): {error}") from error
    if not isinstance(checkpoint, dict) or not {"segmenter", "state_dict"} <= checkpoint.keys():
        raise ValueError(
            f"{path} is no checkpoint of this project: it lacks the keys segmenter and state_dict. "
            "An official checkpoint needs its variant.yml beside it."
        )
    return checkpoint


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
        return load_official(path)
    return model_from_checkpoint(read_checkpoint(path))


def model_from_checkpoint(checkpoint: Mapping[str, Any]) -> Segmenter:
    """Build the model that `read_checkpoint`'s data describes and give it its weights."""
    info = checkpoint["segmenter"]
    dataset = info["config"]["dataset"]
    model = segmenter_from_config(info["config"], num_classes=len(info["classes"]))
    prefix = "model."
    state = {key.removeprefix(prefix): v for key, v in checkpoint["state_dict"].items() if key.startswith(prefix)}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint's tensors do not fit the model its config describes: {error}") from error
    model.spec = ModelSpec(
        classes=tuple(info["classes"]),
        palette=tuple((r, g, b) for r, g, b in info["palette"]),
        ignore_index=info["ignore_index"],
        window=dataset["window"],
        stride=dataset["stride"],
        short_side=dataset["short_side"],
    )
    return model.eval()
