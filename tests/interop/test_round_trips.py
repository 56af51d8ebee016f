"""Checkpoints through our format and back, and into the other implementation's: no tensor changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segmenter_pl import create_segmenter, load_segmenter, save_pretrained
from segmenter_pl.export.convert import convert
from segmenter_pl.models import LinearDecoder, MaskDecoder, ModelSpec, Segmenter, ViTEncoder
from segmenter_pl.weights.reading import read_file
from tests.foreign import (
    Shape,
    layer,
    mmseg_state,
    official_shapes,
    official_state,
    write_mmseg,
    write_official,
    write_paddle,
)

SHAPES = [Shape(), Shape(decoder_depth=0), Shape(distilled=True, decoder_depth=2), Shape(width=128, patch=16, grid=2)]


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


def official_of(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoint.pth", weights_only=True)


def assert_loads_there(folder: Path, shape: Shape) -> None:
    """A module with the official names takes it strictly, and the heads of ImageNet are zeros."""
    state = official_of(folder)["model"]
    module = nn.Module()
    for name, size in official_shapes(shape).items():
        place = module
        *parts, leaf = name.split(".")
        for part in parts:
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        place.register_parameter(leaf, nn.Parameter(torch.ones(size)))
    module.load_state_dict(state, strict=True)
    heads = ("head", "head_dist") if shape.distilled else ("head",)
    for name in (name for head in heads for name in layer(f"encoder.{head}", 1000, shape.width)):
        assert not state[name].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_official_through_ours_and_back(tmp_path: Path, shape: Shape) -> None:
    source = write_official(tmp_path / "theirs", shape, window_stride=8)
    assert convert(source, tmp_path / "model.ckpt", "ours") == [tmp_path / "model.ckpt"]
    convert(tmp_path / "model.ckpt", tmp_path / "again", "official")
    kept = {name: value for name, value in official_of(source)["model"].items() if ".head" not in name[:13]}
    found = {name: value for name, value in official_of(tmp_path / "again")["model"].items() if name in kept}
    assert_equal(found, kept)
    assert_loads_there(tmp_path / "again", shape)
    model, before = load_segmenter(tmp_path / "again"), load_segmenter(source)
    assert model.spec == before.spec
    assert model.spec is not None
    assert model.spec.stride == 8
    picture = torch.randint(0, 256, (1, 3, 37, 50), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(model(picture), before(picture))


class Theirs(yaml.SafeLoader):
    """As PyYAML's FullLoader, which the official code uses: it knows tuples."""


Theirs.add_constructor("tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node)))


def test_variant_file_has_what_the_official_code_takes(tmp_path: Path) -> None:
    convert(write_paddle(tmp_path / "m.pdparams", Shape(distilled=True)), tmp_path / "to", "official")
    variant = yaml.load((tmp_path / "to/variant.yml").read_text(), Loader=Theirs)
    assert variant == yaml.load((tmp_path / "to/variant.yml").read_text(), Loader=yaml.FullLoader)
    net = variant["net_kwargs"]
    assert net == {
        "backbone": "converted",  # a name for which it fetches nothing
        "image_size": (24, 24),
        "patch_size": 8,
        "d_model": 64,
        "n_heads": 1,
        "n_layers": 2,
        "normalization": "vit",
        "distilled": True,
        "dropout": 0.0,
        "drop_path_rate": 0.0,
        "n_cls": 5,
        "decoder": {"name": "mask_transformer", "n_cls": 5, "n_layers": 1, "dropout": 0.0, "drop_path_rate": 0.0},
    }
    assert variant["inference_kwargs"] == {"im_size": 24, "window_size": 24, "window_stride": 24}
    assert variant["dataset_kwargs"]["normalization"] == "vit"


@pytest.mark.parametrize("shape", [Shape(), Shape(decoder_depth=0), Shape(patch_bias=False), Shape(depth=12)])
def test_mmsegmentation_through_ours_and_back(tmp_path: Path, shape: Shape) -> None:
    names = {"classes": list("abcde"), "palette": [[k, k, k] for k in range(5)]}
    source = write_mmseg(tmp_path / "theirs.pth", shape, meta={"dataset_meta": names})
    convert(source, tmp_path / "model.ckpt", "ours")
    convert(tmp_path / "model.ckpt", tmp_path / "again.pth", "mmseg")
    found = torch.load(tmp_path / "again.pth", weights_only=True)
    assert_equal(found["state_dict"], mmseg_state(shape))
    assert found["meta"]["dataset_meta"] == names
    assert load_segmenter(tmp_path / "again.pth").spec == load_segmenter(source).spec


@pytest.mark.parametrize("shape", [Shape(), Shape(decoder_depth=0)])
def test_official_through_mmsegmentation_and_back(tmp_path: Path, shape: Shape) -> None:
    source = write_official(tmp_path / "theirs", shape)
    convert(source, tmp_path / "m.pth", "mmseg")
    assert_equal(torch.load(tmp_path / "m.pth", weights_only=True)["state_dict"], mmseg_state(shape))
    convert(tmp_path / "m.pth", tmp_path / "again", "official")
    found = official_of(tmp_path / "again")["model"]
    assert_equal({k: v for k, v in found.items() if "encoder.head" not in k}, official_state(shape, heads=False))
    assert_loads_there(tmp_path / "again", shape)


def test_golden_files_come_back_bit_by_bit(assets: Path, tmp_path: Path) -> None:
    for case in sorted((assets / "golden/official").iterdir()):
        convert(case, tmp_path / f"{case.name}.ckpt", "ours")
        convert(tmp_path / f"{case.name}.ckpt", tmp_path / case.name, "official")
        before, after = official_of(case)["model"], official_of(tmp_path / case.name)["model"]
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], before[name]) for name in before if "encoder.head" not in name)
    for case in sorted((assets / "golden/mmseg").iterdir()):
        convert(case / "checkpoint.pth", tmp_path / f"m-{case.name}.ckpt", "ours")
        convert(tmp_path / f"m-{case.name}.ckpt", tmp_path / f"{case.name}.pth", "mmseg")
        before = torch.load(case / "checkpoint.pth", weights_only=True)["state_dict"]
        assert_equal(torch.load(tmp_path / f"{case.name}.pth", weights_only=True)["state_dict"], before)


def test_a_trained_model_of_ours_keeps_a_rectangular_table(tmp_path: Path) -> None:
    encoder = {"image_size": (24, 40), "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 1}
    export(model_of(encoder), tmp_path / "export")
    convert(tmp_path / "export", tmp_path / "to", "official")
    with_heads = load_segmenter(tmp_path / "to").state_dict()
    assert_equal(with_heads, load_segmenter(tmp_path / "export").state_dict())
    with pytest.raises(ValueError, match="positions for 15 patches, which is no square grid"):
        convert(tmp_path / "export", tmp_path / "m.pth", "mmseg")


def model_of(encoder: dict[str, Any], classes: int = 5, **decoder: Any) -> Segmenter:
    """A model as a training makes it; `linear=True` for the other decoder."""
    name = encoder.pop("model_name", "vit_tiny_patch16_384.augreg_in21k_ft_in1k")
    vit = ViTEncoder(name, **encoder)
    linear = decoder.pop("linear", False)
    model = Segmenter(vit, LinearDecoder(vit.width, classes) if linear else MaskDecoder(vit.width, classes, **decoder))
    part = {"_target_": f"segmenter_pl.models.{type(model.decoder).__name__}", **decoder}
    backbone = {"_target_": "segmenter_pl.models.ViTEncoder", "model_name": name, **encoder}
    model.config, model.spec = {"backbone": backbone, "decoder": part}, ModelSpec(None, None, 255, 32, 32, None)
    return model


def export(model: Segmenter, folder: Path) -> Path:
    save_pretrained(model, folder)
    return folder


PLAIN = {"image_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 1}


@pytest.mark.parametrize(
    ("encoder", "decoder", "to", "reason"),
    [
        ({"patch_bias": False}, {}, "official", "cannot leave the bias of the patch embedding out"),
        ({}, {"mask_norm": "scale"}, "official", r"no decoder\.mask_norm=scale"),
        ({}, {"mask_norm": "scale"}, "mmseg", r"has no place for decoder\.mask_norm\.log_scale"),
        ({"mean": (0.4, 0.4, 0.4)}, {}, "official", r"pixel statistics .* the model has"),
        ({"num_heads": 2}, {}, "mmseg", "does not tell the attention heads"),
        ({}, {"num_heads": 2}, "official", "one attention head per 64 channels in the decoder"),
        ({}, {"num_heads": 2}, "mmseg", "one attention head per 64 channels in the decoder"),
        ({"embed_dim": 32}, {"linear": True}, "official", "a width of 32 has none"),
        ({"init_values": 1e-5}, {}, "official", r"has no place for encoder\.vit\.blocks\.0\.ls1\.gamma"),
        ({"init_values": 1e-5}, {}, "mmseg", r"has no place for encoder\.vit\.blocks\.0\.ls1\.gamma"),
        ({"global_pool": "avg"}, {}, "official", r"has no place for .*fc_norm"),
        ({"class_token": False, "global_pool": "avg"}, {}, "official", r"has no place for .*fc_norm"),
    ],
)
def test_what_a_format_does_not_hold_is_refused(
    tmp_path: Path, encoder: dict, decoder: dict, to: str, reason: str
) -> None:
    source = export(model_of({**PLAIN, **encoder}, **decoder), tmp_path / "export")
    with pytest.raises(ValueError, match=reason):
        convert(source, tmp_path / "to", to)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("name", ["dinov2_s14", "dinov3_s16"])
def test_registers_rotations_and_scales_have_no_place_elsewhere(tmp_path: Path, name: str) -> None:
    model = create_segmenter(name, "linear", num_classes=3, image_size=32)
    model.spec = ModelSpec(("a", "b", "c"), None, 255, 32, 32, None)
    assert model.config is not None
    model.config["backbone"]["depth"] = 1
    model.encoder.vit.blocks = model.encoder.vit.blocks[:1]
    source = export(model, tmp_path / "export")
    for to in ("official", "mmseg"):
        with pytest.raises(ValueError, match="has no place for encoder"):
            convert(source, tmp_path / "to", to)
    convert(source, tmp_path / "to", "ours")
    picture = torch.randint(0, 256, (1, 3, 30, 45), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(load_segmenter(tmp_path / "to")(picture), model.eval()(picture))


def test_distilled_models_have_no_place_in_mmsegmentation(tmp_path: Path) -> None:
    source = write_official(tmp_path / "theirs", Shape(distilled=True))
    with pytest.raises(ValueError, match=r"MMSegmentation has no place for encoder\.vit\.dist_token"):
        convert(source, tmp_path / "m.pth", "mmseg")


def test_nothing_is_overwritten_and_formats_are_named(tmp_path: Path) -> None:
    source = write_official(tmp_path / "theirs", Shape())
    with pytest.raises(FileExistsError, match="is there already"):
        convert(source, source, "ours")
    with pytest.raises(ValueError, match="--to paddle: choose ours, official, mmseg, timm"):
        convert(source, tmp_path / "to", "paddle")
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        convert(tmp_path / "nothing", tmp_path / "to", "ours")
    np.savez(tmp_path / "odd.npz", a=np.zeros(3, np.float32))
    for to in ("mmseg", "timm"):
        with pytest.raises(ValueError, match=r"odd\.npz is no ViT of the JAX release"):
            convert(tmp_path / "odd.npz", tmp_path / "to", to)
    assert not (tmp_path / "to").exists()


def jax_to_mmseg(arrays: Any) -> dict[str, np.ndarray]:
    """The rules of MMSegmentation's own converter, array by array with loops, so that no reshape can err twice."""
    found = {
        "patch_embed.projection.weight": np.moveaxis(arrays["embedding/kernel"], (0, 1, 2, 3), (2, 3, 1, 0)),
        "patch_embed.projection.bias": arrays["embedding/bias"],
        "pos_embed": arrays["Transformer/posembed_input/pos_embedding"],
        "cls_token": arrays["cls"],
        "ln1.weight": arrays["Transformer/encoder_norm/scale"],
        "ln1.bias": arrays["Transformer/encoder_norm/bias"],
    }
    depth = sum(name.endswith("LayerNorm_0/scale") for name in arrays)
    for i in range(depth):
        theirs, ours = f"Transformer/encoderblock_{i}", f"layers.{i}"
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        width, heads, channels = arrays[f"{attention}/query/kernel"].shape
        weight, bias = np.zeros((3 * width, width), np.float32), np.zeros(3 * width, np.float32)
        out = np.zeros((width, width), np.float32)
        for part, name in enumerate(("query", "key", "value")):
            kernel, offset = arrays[f"{attention}/{name}/kernel"], arrays[f"{attention}/{name}/bias"]
            for head in range(heads):
                for channel in range(channels):
                    row = part * width + head * channels + channel
                    weight[row], bias[row] = kernel[:, head, channel], offset[head, channel]
        for head in range(heads):
            for channel in range(channels):
                out[:, head * channels + channel] = arrays[f"{attention}/out/kernel"][head, channel]
        found |= {f"{ours}.attn.attn.in_proj_weight": weight, f"{ours}.attn.attn.in_proj_bias": bias}
        found |= {
            f"{ours}.attn.attn.out_proj.weight": out,
            f"{ours}.attn.attn.out_proj.bias": arrays[f"{attention}/out/bias"],
        }
        for name, norm in (("ln1", "LayerNorm_0"), ("ln2", "LayerNorm_2")):
            found |= {f"{ours}.{name}.weight": arrays[f"{theirs}/{norm}/scale"]}
            found |= {f"{ours}.{name}.bias": arrays[f"{theirs}/{norm}/bias"]}
        for name, dense in (("ffn.layers.0.0", "Dense_0"), ("ffn.layers.1", "Dense_1")):
            found |= {f"{ours}.{name}.weight": arrays[f"{theirs}/MlpBlock_3/{dense}/kernel"].T}
            found |= {f"{ours}.{name}.bias": arrays[f"{theirs}/MlpBlock_3/{dense}/bias"]}
    return found


def test_encoder_alone_from_jax_to_mmsegmentation_and_timm(assets: Path, tmp_path: Path) -> None:
    source = assets / "data/weights/vit_tiny_patch16_224.augreg_in21k_ft_in1k.npz"
    convert(source, tmp_path / "mmseg.pth", "mmseg")
    found = torch.load(tmp_path / "mmseg.pth", weights_only=True)
    expected = jax_to_mmseg(np.load(source))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.astype(np.float32), err_msg=name)
    convert(source, tmp_path / "timm.safetensors", "timm")
    theirs = load_file(assets / "data/weights/vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors")
    ours = load_file(tmp_path / "timm.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value.float()) for name, value in theirs.items())


def test_encoders_of_whole_models_and_of_timm(tmp_path: Path) -> None:
    shape = Shape()
    whole = {k.removeprefix("encoder."): v for k, v in official_state(shape).items() if k.startswith("encoder.")}
    encoder = {name: value for name, value in whole.items() if not name.startswith("head")}
    save_file(whole, tmp_path / "timm.safetensors")
    convert(tmp_path / "timm.safetensors", tmp_path / "mmseg.pth", "mmseg")  # as its own converter: no prefix, no head
    mmseg = {k.removeprefix("backbone."): v for k, v in mmseg_state(shape).items() if k.startswith("backbone.")}
    assert_equal(torch.load(tmp_path / "mmseg.pth", weights_only=True), mmseg)
    convert(tmp_path / "mmseg.pth", tmp_path / "again.pth", "timm")
    assert_equal(torch.load(tmp_path / "again.pth", weights_only=True), encoder)
    for number, source in enumerate(
        [
            write_official(tmp_path / "official", shape),
            write_mmseg(tmp_path / "whole.pth", shape),
            write_paddle(tmp_path / "whole.pdparams", shape),
        ]
    ):
        convert(source, tmp_path / f"{number}.safetensors", "timm")
        assert_equal(read_file(tmp_path / f"{number}.safetensors").data, encoder)
    for to in ("ours", "official"):
        with pytest.raises(ValueError, match=r"timm\.safetensors is an encoder alone"):
            convert(tmp_path / "timm.safetensors", tmp_path / "to", to)
