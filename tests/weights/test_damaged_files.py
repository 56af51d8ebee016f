"""Valid files with some bytes changed: a clean error, or a model with finite weights."""

import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from segmenter_pl import load_segmenter, save_pretrained
from segmenter_pl.export.convert import convert
from segmenter_pl.models import ViTEncoder
from tests.foreign import Shape, jax_arrays, mmseg_state, official_state, write_mmseg, write_official, write_paddle

S = Shape(width=16, depth=1, patch=4, grid=2, classes=3)
Subject = tuple[Path, Callable[[], nn.Module]]  # the file to be damaged, and what reads it


def encoder(path: Path) -> Subject:
    sizes = {"image_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 1}
    return path, lambda: ViTEncoder("vit_tiny_patch16_224", weights=str(path), **sizes)


def timm_state() -> dict[str, torch.Tensor]:
    state = official_state(S)
    return {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}


def official(folder: Path) -> Subject:
    write_official(folder, S)
    return folder / "checkpoint.pth", lambda: load_segmenter(folder)


def variant(folder: Path) -> Subject:
    return official(folder)[0].with_name("variant.yml"), lambda: load_segmenter(folder)


def mmseg(folder: Path) -> Subject:
    path = write_mmseg(folder / "m.pth", S)
    return path, lambda: load_segmenter(path)


def old_torch(folder: Path) -> Subject:
    torch.save({"state_dict": mmseg_state(S)}, folder / "m.pth", _use_new_zipfile_serialization=False)
    return folder / "m.pth", lambda: load_segmenter(folder / "m.pth")


def paddle(folder: Path) -> Subject:
    path = write_paddle(folder / "m.pdparams", S)
    return path, lambda: load_segmenter(path)


def paddle_pieces(folder: Path) -> Subject:
    path = write_paddle(folder / "m.pdparams", S, protocol=2, largest=100)
    return path, lambda: load_segmenter(path)


def ours(folder: Path) -> Subject:
    convert(write_official(folder / "o", S), folder / "m.ckpt", "ours")
    return folder / "m.ckpt", lambda: load_segmenter(folder / "m.ckpt")


def export(folder: Path) -> Subject:
    save_pretrained(load_segmenter(write_official(folder / "o", S)), folder / "e")
    return folder / "e/model.safetensors", lambda: load_segmenter(folder / "e")


def config(folder: Path) -> Subject:
    return export(folder)[0].with_name("config.json"), lambda: load_segmenter(folder / "e")


def npz(folder: Path) -> Subject:
    np.savez(folder / "m.npz", **jax_arrays(S))  # type: ignore[arg-type]
    return encoder(folder / "m.npz")


def safetensors(folder: Path) -> Subject:
    save_file(timm_state(), folder / "m.safetensors")
    return encoder(folder / "m.safetensors")


def timm(folder: Path) -> Subject:
    torch.save({"model": timm_state()}, folder / "m.pth")
    return encoder(folder / "m.pth")


def damaged(content: bytes, rng: random.Random) -> bytes:
    """1 to 20 bytes changed, put in or left out, anywhere or near either end; or the file cut off."""
    if rng.random() < 0.15:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    start, end = rng.choice(
        [(0, len(content)), (0, min(3000, len(content))), (0, 64), (max(0, len(content) - 4000), 0)]
    )
    for _ in range(rng.choice([1, 1, 2, 4, 20])):
        place = rng.randrange(start, end or len(content)) % len(changed)
        act = rng.random()
        if act < 0.1:
            del changed[place : place + rng.choice([1, 8])]
        elif act < 0.2:
            changed[place:place] = rng.randbytes(rng.choice([1, 8]))
        elif act < 0.6:
            changed[place] ^= 1 << rng.randrange(8)
        else:
            changed[place] = rng.choice([0, 255, rng.randrange(256), rng.randrange(32, 127)])
    return bytes(changed)


def check(subject: Subject, seeds: range) -> tuple[int, int]:
    """Numbers of files that were read, and that were refused."""
    path, load = subject
    picture, content, numbers = torch.zeros(1, 3, 9, 7, dtype=torch.uint8), path.read_bytes(), [0, 0]
    load()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in seeds:
        path.unlink()  # the file may be mapped
        path.write_bytes(damaged(content, random.Random(seed)))
        try:
            model: Any = load()
        except (FileNotFoundError, ValueError) as error:
            said = str(error)
            numbers[1] += 1
            assert any(name in said for name in (path.name, path.parent.name)), f"seed {seed}: {said}"
            assert len(said) < 3000, f"seed {seed}"
        else:
            with torch.no_grad():
                model(picture)
            assert all(value.isfinite().all() for value in model.state_dict().values()), f"seed {seed}"
            numbers[0] += 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
    return numbers[0], numbers[1]


KINDS = (
    *(official, variant, mmseg, old_torch, paddle, paddle_pieces, ours),
    *(export, config, npz, safetensors, timm),
)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_give_an_error_or_a_model(tmp_path: Path, kind: Callable[[Path], Subject]) -> None:
    read, refused = check(kind(tmp_path), range(200))
    assert refused > 0
    assert read > 0 or kind is config  # hardly a byte of it says nothing


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_more_damaged_files(tmp_path: Path, kind: Callable[[Path], Subject]) -> None:
    check(kind(tmp_path), range(1000, 4000))
