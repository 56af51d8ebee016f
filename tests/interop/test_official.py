import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from segmenter_pl import load_segmenter
from segmenter_pl.models import ModelSpec, Segmenter, ViTEncoder
from segmenter_pl.ops import upsampled_cross_entropy

CASES = ["vit_p16_linear", "vit_p16_mask", "vit_p8_linear", "deit_p16_mask"]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, assets: Path) -> Path:
    return assets / "golden" / "official" / request.param


@pytest.fixture
def copy(assets: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(assets / "golden" / "official" / "vit_p16_mask", tmp_path / "run"))


def ours(model: Segmenter, official_name: str) -> torch.nn.Parameter:
    return model.get_parameter(official_name.replace("encoder.", "encoder.vit."))


def test_logits_equal_the_official_ones(case: Path) -> None:
    model = load_segmenter(case)
    assert not model.training
    expected = np.load(case / "expected.npz")
    for i in (0, 1):
        with torch.no_grad():
            logits = model(torch.from_numpy(expected[f"input_{i}"]))
        torch.testing.assert_close(logits, torch.from_numpy(expected[f"logits_{i}"]), atol=1e-4, rtol=0)


def test_loss_and_gradients_equal_the_official_ones(case: Path) -> None:
    model = load_segmenter(case / "checkpoint.pth")
    expected = np.load(case / "expected.npz")
    coarse = model.coarse_logits(torch.from_numpy(expected["loss_input"]))
    target = torch.from_numpy(expected["loss_target"])
    loss = upsampled_cross_entropy(coarse, target, model.stride, ignore_index=255)
    loss.backward()
    assert loss.item() == pytest.approx(float(expected["loss"]), abs=1e-4)
    names = [name for name in expected.files if name.startswith("grad.")]
    assert len(names) == 2
    for name in names:
        gradient = ours(model, name.removeprefix("grad.")).grad
        torch.testing.assert_close(gradient, torch.from_numpy(expected[name]), atol=1e-4, rtol=1e-3)


def test_architecture_and_window_come_from_the_variant(assets: Path) -> None:
    model = load_segmenter(assets / "golden" / "official" / "deit_p16_mask")
    assert model.spec == ModelSpec(None, None, ignore_index=255, window=48, stride=48, short_side=48)
    assert model.encoder.vit.num_prefix_tokens == 2
    assert model.encoder.vit.pos_embed.shape == (1, 2 + 9, 128)
    assert model.pixel_mean == pytest.approx((123.675, 116.28, 103.53))
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}


def test_an_official_checkpoint_serves_as_encoder_weights(copy: Path) -> None:
    sizes = {"image_size": 48, "embed_dim": 128, "depth": 2, "num_heads": 2}
    encoder = ViTEncoder("vit_tiny_patch16_384", weights=str(copy / "checkpoint.pth"), **sizes)
    for name, value in load_segmenter(copy).encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value)


def test_missing_files_are_named(copy: Path) -> None:
    (copy / "variant.yml").unlink()
    with pytest.raises(FileNotFoundError, match=r"variant\.yml"):
        load_segmenter(copy)
    with pytest.raises(FileNotFoundError, match=r"nowhere/checkpoint\.pth|nowhere"):
        load_segmenter(copy / "nowhere")


def test_keys_that_do_not_fit_are_listed(copy: Path) -> None:
    checkpoint = torch.load(copy / "checkpoint.pth", weights_only=True)
    checkpoint["model"]["decoder.extra"] = checkpoint["model"].pop("decoder.cls_emb")
    torch.save(checkpoint, copy / "checkpoint.pth")
    with pytest.raises(ValueError, match=r"missing: decoder\.cls_emb\n.*unexpected: decoder\.extra"):
        load_segmenter(copy)


def test_other_architectures_are_refused(copy: Path) -> None:
    text = (copy / "variant.yml").read_text()
    (copy / "variant.yml").write_text(text.replace("mask_transformer", "deeplab_dec"))
    with pytest.raises(ValueError, match="'deeplab_dec' is neither linear nor mask_transformer"):
        load_segmenter(copy)
    (copy / "variant.yml").write_text(text.replace("!!python/tuple", "!!python/object/apply:os.system"))
    with pytest.raises(Exception, match="could not determine a constructor"):
        load_segmenter(copy)
