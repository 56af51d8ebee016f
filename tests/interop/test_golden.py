"""Outputs of the other implementations, recorded once, through load_segmenter alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segmenter_pl import load_segmenter
from segmenter_pl.inference import predict_logits
from segmenter_pl.models import Segmenter

MMSEG = ["vit_linear", "vit_mask", "vit_mask_without_patch_bias"]
PADDLE = ["deit_mask", "vit_linear", "vit_mask"]


def assert_same_logits(model: Segmenter, file: Path) -> None:
    expected = np.load(file)
    names = [name for name in expected.files if name.startswith("input_")]
    assert names
    for name in names:
        with torch.no_grad():
            logits = model(torch.from_numpy(expected[name]))
        np.testing.assert_allclose(logits, expected[name.replace("input", "logits")], rtol=0, atol=1e-4)


def epsilons(module: nn.Module) -> set[float]:
    return {part.eps for part in module.modules() if isinstance(part, nn.LayerNorm)}


@pytest.mark.parametrize("case", MMSEG)
def test_logits_and_windows_of_mmsegmentation(case: str, assets: Path) -> None:
    folder = assets / "golden/mmseg" / case
    model, expected = load_segmenter(folder / "checkpoint.pth"), np.load(folder / "expected.npz")
    assert_same_logits(model, folder / "expected.npz")
    window, stride = (int(number) for number in expected["window_size_stride"])
    found = predict_logits(model, torch.from_numpy(expected["window_input"])[0], window=window, stride=stride)
    np.testing.assert_allclose(found, expected["window_logits"].reshape(found.shape), rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", PADDLE)
def test_logits_of_paddlevit(case: str, assets: Path) -> None:
    folder = assets / "golden/paddlevit" / case
    model = load_segmenter(folder / "model.pdparams", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert_same_logits(model, folder / "expected.npz")


def test_mmsegmentation_settings(assets: Path) -> None:
    model = load_segmenter(assets / "golden/mmseg/vit_mask/checkpoint.pth")
    assert epsilons(model.encoder) == {1e-6}
    assert epsilons(model.decoder) == {1e-5}
    assert model.encoder.position_mode == "bicubic"
    assert model.pixel_mean == (127.5, 127.5, 127.5)
    assert model.spec is not None
    assert (model.spec.window, model.spec.stride, model.spec.short_side) == (48, 16, 48)
    assert {part.p for part in model.decoder.modules() if isinstance(part, nn.Dropout)} == {0.0}
    assert model.encoder.vit.patch_embed.proj.bias is not None
    without = load_segmenter(assets / "golden/mmseg/vit_mask_without_patch_bias/checkpoint.pth")
    assert without.encoder.vit.patch_embed.proj.bias is None


def test_official_settings(assets: Path) -> None:
    for case, mean in (("vit_p16_mask", 127.5), ("deit_p16_mask", 255 * 0.485)):
        model = load_segmenter(assets / "golden/official" / case)
        assert epsilons(model) == {1e-5}
        assert model.encoder.position_mode == "bilinear"
        assert model.pixel_mean[0] == pytest.approx(mean)
        rates = {part.p for part in model.decoder.blocks.modules() if isinstance(part, nn.Dropout)}
        assert rates == {0.1}
        drops = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.encoder.vit.blocks]
        assert drops == pytest.approx([0.0, 0.1])
        assert all(isinstance(block.drop_path1, nn.Identity) for block in model.decoder.blocks)


def test_paddlevit_settings_and_other_pixel_statistics(assets: Path) -> None:
    file = assets / "golden/paddlevit/deit_mask/model.pdparams"
    model = load_segmenter(file)
    assert epsilons(model.encoder.vit.blocks) == epsilons(model.decoder.blocks) == {1e-6}
    assert epsilons(model.encoder.vit.norm) == epsilons(model.decoder.decoder_norm) == {1e-5}
    assert epsilons(model.decoder.mask_norm) == {1e-5}
    assert model.encoder.vit.num_prefix_tokens == 2
    assert model.pixel_mean == (127.5, 127.5, 127.5)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    other = load_segmenter(file, mean=mean, std=std)
    assert other.pixel_mean == pytest.approx([255 * value for value in mean])
    picture = torch.randint(0, 256, (1, 3, 64, 64)).float()
    scale, shift = (torch.tensor(values).view(1, 3, 1, 1) for values in (std, mean))
    with torch.no_grad():  # (x/255 - mean)/std, undone for statistics of 0.5
        torch.testing.assert_close(other(picture), model(255 * ((picture / 255 - shift) / scale * 0.5 + 0.5)))
    with pytest.raises(ValueError, match=r"deit_mask/model\.pdparams: backbone\.std=.*give numbers in 0…1"):
        load_segmenter(file, std=(127.5, 127.5, 127.5))
