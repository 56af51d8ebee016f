"""Accuracy of a backbone with its classification head on ImageNet's validation pictures (Table 3 of the paper)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image, UnidentifiedImageError
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segmenter_pl.choices import choices, read_choice
from segmenter_pl.pictures import TooLargeError, opened
from segmenter_pl.weights.fitting import encoder_state, require_match
from segmenter_pl.weights.hub import hub_weights
from segmenter_pl.weights.reading import read_file

CLASSES = 1000
WNID = re.compile(r"n\d{8}")
SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclass(frozen=True)
class Accuracy:
    """How many of the pictures had their class on the first place, or among the first five."""

    pictures: int
    correct1: int
    correct5: int

    @property
    def top1(self) -> float:
        return self.correct1 / self.pictures

    @property
    def top5(self) -> float:
        return self.correct5 / self.pictures


def pictures_of_imagenet(root: Path) -> list[tuple[Path, int]]:
    """Pictures and class numbers of `ROOT/val/<wnid>/`, or of ROOT itself; classes are the sorted 1000 wnids.

    Raises: FileNotFoundError, ValueError where the folder is not laid out like this; the message says how it should be.
    """
    folder = root / "val" if (root / "val").is_dir() else root
    if not folder.is_dir():
        raise FileNotFoundError(f"--imagenet {root} is no folder: give the one that holds val/")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and WNID.fullmatch(entry.name))
    if len(names) != CLASSES:
        flat = any(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir())
        hint = " (the pictures lie there unsorted: move each into the folder of its class)" if flat else ""
        raise ValueError(
            f"--imagenet {root}: {folder} has {len(names)} folders named like n01440764, and the 1000 classes are "
            f"counted by their order{hint}"
        )
    samples = [
        (path, number)
        for number, name in enumerate(names)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not samples:
        raise ValueError(f"--imagenet {root}: there is no picture ({', '.join(SUFFIXES)}) in the folders of {folder}")
    return samples


class ImageNetVal(Dataset[tuple[Tensor, int]]):
    """What `pictures_of_imagenet` lists, read and transformed. Raises ValueError for a picture that cannot be read."""

    def __init__(self, samples: Sequence[tuple[Path, int]], transform: Callable[[Image.Image], Tensor]) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        path, number = self.samples[i]
        try:
            with opened(path) as picture:
                return self.transform(picture.convert("RGB")), number
        except TooLargeError as error:
            raise ValueError(f"{path} {error}") from error
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
            raise ValueError(f"{path} cannot be read as a picture ({error}): copy it again") from error


def timm_name(backbone: str) -> str:
    """timm's name of an option of `conf/backbone`; a name of timm's is taken as it is.

    Raises: ValueError for an option without ImageNet weights, or a name that is none.
    """
    if backbone in choices("backbone"):
        content = read_choice("backbone", backbone)
        if content["pretrained"] is False:
            raise ValueError(f"{backbone} has no ImageNet weights: it is trained from scratch")
        return str(content["model_name"])
    if not timm.is_model(backbone):
        raise ValueError(f"{backbone} is neither an option of backbone= nor a name of timm's")
    return backbone


def classifier(backbone: str, weights: Path | None = None) -> nn.Module:
    """The timm model with its 1000 outputs, in evaluation mode.

    Args:
        backbone: as for `timm_name`. weights: a file with the head (.npz, .safetensors, .pth); None: timm's, from the
            hub or its cache.
    Raises: ValueError, FileNotFoundError for a model without such a head, and weights that do not fit or are not there.
    """
    name = timm_name(backbone)
    model: Any = timm.create_model(name, pretrained=False)
    if getattr(model, "num_classes", 0) != CLASSES:
        raise ValueError(
            f"{backbone} ({name}) has no head for ImageNet's 1000 classes: there is no accuracy to measure"
        )
    if weights is None:
        known = model.pretrained_cfg
        try:
            weights = hub_weights(name, known.get("hf_hub_id"), known.get("hf_hub_filename"))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"the weights of {name} are neither in the cache nor to be had from the hub: give a file that holds "
                "its classification head too, with --weights"
            ) from error
    state = _with_head(weights)
    if "head.weight" not in state:
        raise ValueError(f"{weights} holds no classification head: give a file of the whole model")
    require_match(model.state_dict(), state, str(weights))
    model.load_state_dict(state)
    return model.eval()


def _with_head(path: Path) -> dict[str, Tensor]:
    contents = read_file(path)
    state = encoder_state(contents)
    if contents.kind == "jax" and "head/kernel" in contents.data:
        state = {name: value for name, value in state.items() if not name.startswith("pre_logits")}
        state |= {
            "head.weight": contents.data["head/kernel"].float().T,
            "head.bias": contents.data["head/bias"].float(),
        }
    return {name: value.float() for name, value in state.items()}


def evaluation_transform(model: nn.Module, resize: int | None = None) -> Any:
    """Resize the short side, centre crop, normalise, as timm's data configuration of the model says.

    Args:
        resize: short side in pixels before the crop, bicubic; None: the crop divided by the configuration's crop_pct.
    Raises: ValueError for a short side below the crop.
    """
    settings = resolve_model_data_config(model)
    side = settings["input_size"][-1]
    if resize is not None:
        if resize < side:
            raise ValueError(f"--resize {resize} is below the model's input of {side} pixels")
        # timm resizes to floor(side / crop_pct): half a pixel more, or rounding could lose one.
        settings |= {"crop_pct": side / (resize + 0.5), "interpolation": "bicubic", "crop_mode": "center"}
    return create_transform(**settings, is_training=False)


@torch.inference_mode()
def measure(
    model: nn.Module, data: ImageNetVal, *, batch_size: int, workers: int, device: str, advance: Callable[[int], None]
) -> Accuracy:
    """Counts over all pictures, in float32; `advance` is told the number of pictures of each batch."""
    model = model.to(device)
    pictures = correct1 = correct5 = 0
    for images, numbers in DataLoader(data, batch_size, num_workers=workers):
        first = model(images.to(device)).topk(5).indices.cpu()  # (B, 5)
        hits = first == numbers[:, None]
        pictures += len(numbers)
        correct1 += int(hits[:, 0].sum())
        correct5 += int(hits.sum())
        advance(len(numbers))
    return Accuracy(pictures, correct1, correct5)
