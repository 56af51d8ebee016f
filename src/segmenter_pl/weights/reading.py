"""Opening a file of weights by what is in it, whatever its name; nothing that it holds is run."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from segmenter_pl.weights.restricted import load_paddle, load_torch

PICKLE = b"\x80"
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of files before torch 1.6, pickled
DENSEST = 100  # weights are noise: nothing honest shrinks to less than a hundredth
LONGEST = 200  # characters of a reason; libraries may quote the file


@dataclass(frozen=True)
class Contents:
    """What is in a file.

    Attributes:
        path: the file. kind: "torch", "safetensors", "jax" or "paddle".
        data: tensors by name, or what a training script saved beside them ("torch"). notes: text of a safetensors file.
    """

    path: Path
    kind: str
    data: dict[str, Any]
    notes: Mapping[str, str]


def read_file(path: str | Path) -> Contents:
    """Open a file of weights: .pth (new or old), .safetensors, .npz, .pdparams.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of these, is cut off or spoilt, or holds what could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: give a file of weights"
        )
    try:
        kind = _kind(path)
        data = READERS[kind](path)
        if not isinstance(data, dict):
            raise ValueError(f"it holds a {type(data).__name__}, not tensors by name")
        _check_claims(data, path.stat().st_size)
        notes = _notes(path) if kind == "safetensors" else {}
    except Exception as error:  # each format fails with exceptions of its own, MemoryError for sizes that are none
        # Only the first words: torch goes on with advice to load the file without its protection.
        reason = f"{type(error).__name__}: {error}".partition(". ")[0].splitlines()[0][:LONGEST]
        raise ValueError(
            f"{path} cannot be read as a checkpoint (cut off, spoilt, or something else): copy it again, or give "
            f"another ({reason})"
        ) from error
    return Contents(path, kind, {str(name): value for name, value in data.items()}, notes)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(len(OLD_TORCH))
    if not head:
        raise ValueError("it is empty")
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > DENSEST * path.stat().st_size:
            raise ValueError("it would unpack to more than a hundred times its size")
        if any(entry.filename.endswith(".npy") for entry in entries):
            return "jax"
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):  # what torch writes is mapped as it is
            raise ValueError("it was packed anew: its entries are compressed")
        return "torch"
    if head.startswith(OLD_TORCH):
        return "torch"
    if head.startswith(PICKLE):
        return "paddle"
    if head[8:9] == b"{":
        return "safetensors"
    raise ValueError("it begins like none of .pth, .safetensors, .npz, .pdparams")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # it is no mapping


def _notes(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _read_npz(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


READERS = {"torch": load_torch, "safetensors": _read_safetensors, "jax": _read_npz, "paddle": load_paddle}


def _check_claims(data: Mapping[str, Any], size: int) -> None:
    """A few bytes can claim to be a huge tensor (strides of 0); what is made of it would fill the memory."""
    claimed = sum(value.numel() * value.element_size() for value in _tensors(data))
    if claimed > DENSEST * size:
        raise ValueError(f"its tensors claim {claimed:,} bytes, and it has {size:,}")


def _tensors(data: Any) -> list[Tensor]:
    """All tensors in nested dictionaries and lists; each container once, for they may hold one another."""
    found, seen, left = [], set(), [data]
    while left:
        one = left.pop()
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, dict | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            left += one.values() if isinstance(one, dict) else one
    return found
