"""Every kind of file that backbone.weights takes gives the same encoder."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.layers import resample_patch_embed
from torch import Tensor

from segmenter_pl import load_segmenter, save_pretrained
from segmenter_pl.export.convert import convert
from segmenter_pl.models import ViTEncoder
from tests.foreign import (
    Shape,
    jax_arrays,
    mmseg_state,
    official_state,
    write_mmseg,
    write_official,
    write_paddle,
)

REAL = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
VIT, DEIT = "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"


def encoder(path: Path, s: Shape, **settings: object) -> ViTEncoder:
    sizes = {"image_size": s.grid * s.patch, "patch_size": s.patch, "embed_dim": s.width, "depth": s.depth}
    model = DEIT if s.distilled else VIT
    return ViTEncoder(model, weights=str(path), num_heads=s.width // 64, **{**sizes, **settings})  # type: ignore[arg-type]


def timm_state(s: Shape) -> dict[str, Tensor]:
    state = official_state(s)
    return {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}


def jax(folder: Path, s: Shape) -> Path:
    np.savez(folder / "augreg.npz", **jax_arrays(s))  # type: ignore[arg-type]
    return folder / "augreg.npz"


def first_generation(folder: Path, s: Shape) -> Path:
    """With the layer before the classifier that ImageNet-21k models of 2020 have."""
    more = {"pre_logits/kernel": np.ones((s.width, 7), np.float32), "pre_logits/bias": np.ones(7, np.float32)}
    np.savez(folder / "imagenet21k.npz", **jax_arrays(s), **more)  # type: ignore[arg-type]
    return folder / "imagenet21k.npz"


def timm_safetensors(folder: Path, s: Shape) -> Path:
    save_file(timm_state(s), folder / "model.safetensors")
    return folder / "model.safetensors"


def timm_pth(folder: Path, s: Shape) -> Path:
    torch.save(timm_state(s), folder / "timm.pth")
    return folder / "timm.pth"


def deit(folder: Path, s: Shape) -> Path:
    torch.save({"model": timm_state(s)}, folder / "deit.pth", _use_new_zipfile_serialization=False)
    return folder / "deit.pth"


def official(folder: Path, s: Shape) -> Path:
    return write_official(folder / "official", s) / "checkpoint.pth"


def mmseg_whole(folder: Path, s: Shape) -> Path:
    return write_mmseg(folder / "iter_160000.pth", s)


def mmseg_encoder(folder: Path, s: Shape) -> Path:
    state = {name.removeprefix("backbone."): value for name, value in mmseg_state(s).items() if "backbone." in name}
    torch.save({"state_dict": state}, folder / "converted.pth")
    return folder / "converted.pth"


def paddle(folder: Path, s: Shape) -> Path:
    return write_paddle(folder / "model.pdparams", s, protocol=2)


def ours(folder: Path, s: Shape) -> Path:
    convert(write_official(folder / "o", s), folder / "best.ckpt", "ours")
    return folder / "best.ckpt"


def export(folder: Path, s: Shape) -> Path:
    return save_pretrained(load_segmenter(write_official(folder / "o", s)), folder / "export")[0]


SOURCES = [
    *(jax, first_generation, timm_safetensors, timm_pth, deit, official),
    *(mmseg_whole, mmseg_encoder, paddle, ours, export),
]
UNDISTILLED = {jax, first_generation, mmseg_whole, mmseg_encoder}


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        (source, shape)
        for source in SOURCES
        for shape in (Shape(), Shape(width=128, depth=3, patch=4), Shape(distilled=True, decoder_depth=0))
        if not (shape.distilled and source in UNDISTILLED)
    ],
)
def test_every_source_gives_the_same_tensors(
    tmp_path: Path, source: Callable[[Path, Shape], Path], shape: Shape
) -> None:
    found = encoder(source(tmp_path, shape), shape).vit.state_dict()
    expected = {name: value for name, value in timm_state(shape).items() if not name.startswith("head")}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("source", SOURCES)
def test_another_size_and_patch_are_fitted_with_a_note(
    tmp_path: Path, source: Callable[[Path, Shape], Path], caplog: pytest.LogCaptureFixture
) -> None:
    shape = Shape()
    with caplog.at_level(logging.INFO, logger="segmenter_pl"):
        found = encoder(source(tmp_path, shape), shape, image_size=(20, 28), patch_size=4).vit.state_dict()
    assert "patch embedding resampled from 8 to 4 pixels" in caplog.text
    assert "position table resized from 3x3 to 5x7 patches" in caplog.text
    expected = resample_patch_embed(timm_state(shape)["patch_embed.proj.weight"], [4, 4])
    torch.testing.assert_close(found["patch_embed.proj.weight"], expected)
    assert found["pos_embed"].shape == (1, 1 + 35, 64)


def test_another_depth_is_told(tmp_path: Path) -> None:
    for depth, words in ((1, "unexpected: blocks.1"), (3, "missing: blocks.2")):
        with pytest.raises(ValueError, match=words) as error:
            encoder(jax(tmp_path, Shape()), Shape(depth=depth))
        assert str(error.value).startswith(f"backbone.weights={tmp_path}/augreg.npz does not fit the model")
        assert "choose the backbone" in str(error.value)


def test_a_missing_and_a_foreign_array_are_told(tmp_path: Path) -> None:
    arrays = jax_arrays(Shape())
    np.savez(tmp_path / "more.npz", **arrays, other=np.zeros(2, np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unexpected: other"):
        encoder(tmp_path / "more.npz", Shape())
    del arrays["Transformer/encoderblock_1/LayerNorm_2/bias"]
    np.savez(tmp_path / "less.npz", **arrays)  # type: ignore[arg-type]
    words = r"weights=.*less\.npz is no ViT of the JAX release: it lacks 'Transformer/encoderblock_1/LayerNorm_2/bias'"
    with pytest.raises(ValueError, match=words):
        encoder(tmp_path / "less.npz", Shape())


@pytest.mark.parametrize(
    ("size", "patch"), [(512, 16), (384, 8), (512, 32), pytest.param(512, 8, marks=pytest.mark.slow)]
)
def test_real_weights_of_both_kinds_give_the_same_features(assets: Path, size: int, patch: int) -> None:
    """224 and 384 with patches of 16 pixels are in test_fitting."""
    files = [assets / "data/weights" / f"{REAL}{suffix}" for suffix in (".safetensors", ".npz")]
    encoders = [ViTEncoder(REAL, image_size=size, patch_size=patch, weights=str(file)).eval() for file in files]
    picture = torch.randint(0, 256, (1, 3, size, size // 2), dtype=torch.uint8)
    with torch.no_grad():
        first, second = (one(picture) for one in encoders)
    assert first.shape == (1, size * size // 2 // patch**2, 192)
    torch.testing.assert_close(first, second, atol=2e-3, rtol=0)
