"""The packaged backbone files, the factory, and parameter counts."""

import pytest
import torch

from segmenter_pl.choices import choices, read_choice
from segmenter_pl.factory import create_segmenter, segmenter_from_config
from segmenter_pl.models import LinearDecoder, MaskDecoder, ViTEncoder

HALF, IMAGENET = (127.5, 127.5, 127.5), (123.675, 116.28, 103.53)

# name: patch size, prefix tokens, width, depth, mean colour
BACKBONES = {
    "vit_t16": (16, 1, 192, 12, HALF),
    "vit_s16": (16, 1, 384, 12, HALF),
    "vit_b16": (16, 1, 768, 12, HALF),
    "vit_l16": (16, 1, 1024, 24, HALF),
    "vit_s32": (32, 1, 384, 12, HALF),
    "vit_b32": (32, 1, 768, 12, HALF),
    "vit_l32": (32, 1, 1024, 24, HALF),
    "vit_b8": (8, 1, 768, 12, HALF),
    "vit_b16_orig": (16, 1, 768, 12, HALF),
    "deit_b16": (16, 2, 768, 12, IMAGENET),
    "deit_b16_224": (16, 2, 768, 12, IMAGENET),
    "deit_s16_distilled": (16, 2, 384, 12, IMAGENET),
    "deit_t16_distilled": (16, 2, 192, 12, IMAGENET),
    "deit_s16": (16, 1, 384, 12, IMAGENET),
    "deit_t16": (16, 1, 192, 12, IMAGENET),
    "dinov2_s14": (14, 1, 384, 12, IMAGENET),
    "dinov2_b14": (14, 1, 768, 12, IMAGENET),
    "dinov3_s16": (16, 5, 384, 12, IMAGENET),
    "dinov3_b16": (16, 5, 768, 12, IMAGENET),
    "vit_micro": (8, 1, 96, 4, HALF),
}


OTHERS = {"vit", "pyramid", "resnest101", "swin_l"}  # what options build on, and what test_pyramid is about


def test_the_table_above_has_every_plain_vit() -> None:
    assert set(choices("backbone")) == {*BACKBONES, *OTHERS}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_builds(name: str) -> None:
    patch, prefix, width, depth, mean = BACKBONES[name]
    with torch.device("meta"):
        encoder = create_segmenter(name, "linear", num_classes=3, image_size=64).encoder
    assert (encoder.patch_size, encoder.vit.num_prefix_tokens, encoder.width, encoder.depth) == (
        patch,
        prefix,
        width,
        depth,
    )
    settings = read_choice("backbone", name)
    small = {**settings, "depth": 1, "pretrained": False, "image_size": 64}
    assert small.pop("_target_") == "segmenter_pl.models.ViTEncoder"
    encoder = ViTEncoder(**small).eval()
    assert tuple(encoder.pixel_mean.flatten().tolist()) == pytest.approx(mean)
    with torch.no_grad():
        assert encoder(torch.zeros(1, 3, 64, 80)).shape == (1, -(-64 // patch) * -(-80 // patch), width)


@pytest.mark.parametrize(
    ("backbone", "decoder", "image_size", "num_classes", "heads", "millions"),
    [
        ("vit_t16", "mask", 512, 150, 1, 6.91),
        ("vit_s16", "mask", 512, 150, 1, 26.42),
        ("vit_b16", "mask", 512, 150, 1, 103.27),
        ("deit_b16", "linear", 512, 150, 2, 88.09),
        ("deit_b16", "mask", 512, 150, 2, 104.04),
        ("vit_b8", "linear", 512, 150, 1, 89.24),
        ("vit_l16", "mask", 640, 150, 1, 334.26),
        ("vit_l16", "mask", 480, 60, 1, 333.45),
    ],
)
def test_parameter_counts_are_the_official_ones(
    backbone: str, decoder: str, image_size: int, num_classes: int, heads: int, millions: float
) -> None:
    with torch.device("meta"):
        model = create_segmenter(backbone, decoder, num_classes=num_classes, image_size=image_size)
    count = sum(p.numel() for p in model.parameters())
    unused = heads * 1000 * (model.encoder.width + 1)  # the authors' models carry their ImageNet classifiers along
    assert (count + unused) / 1e6 == pytest.approx(millions, abs=0.005)


def test_seg_tiny_has_as_many_parameters_as_in_mmsegmentation() -> None:
    with torch.device("meta"):
        model = create_segmenter("vit_t16", "mask", num_classes=150)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(6.713, abs=0.0005)


def test_the_factory_reads_the_packaged_settings() -> None:
    model = create_segmenter("vit_micro", num_classes=2, image_size=64)
    assert isinstance(model.decoder, MaskDecoder)
    assert len(model.decoder.blocks) == 2
    assert model.decoder.blocks[0].attn.attn_drop.p == 0.1
    rates = [getattr(b.drop_path1, "drop_prob", 0.0) for b in create_segmenter(num_classes=2).encoder.vit.blocks]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])  # the paper's 0.1
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2, 64, 64)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"backbone=vit_x16 does not exist; there is .*vit_t16"):
        create_segmenter("vit_x16", num_classes=2)
    with pytest.raises(ValueError, match="decoder=none does not exist; there is deeplabv3plus, linear, mask, "):
        create_segmenter("vit_t16", "none", num_classes=2)


def test_a_stored_configuration_is_rebuilt_without_its_weights() -> None:
    backbone = {**read_choice("backbone", "vit_micro"), "image_size": 32, "pretrained": True, "weights": "gone.pth"}
    model = segmenter_from_config({"backbone": backbone, "decoder": read_choice("decoder", "linear")}, num_classes=4)
    assert isinstance(model.decoder, LinearDecoder)
    assert model.num_classes == 4


@pytest.mark.parametrize("target", ["os.system", "segmenter_pl.models.Segmenter", None])
def test_a_stored_configuration_cannot_name_other_code(target: str | None) -> None:
    config = {"backbone": {"_target_": target, "command": "false"}, "decoder": read_choice("decoder", "linear")}
    with pytest.raises(ValueError, match=r"backbone\._target_="):
        segmenter_from_config(config, num_classes=2)
    config = {"backbone": {**read_choice("backbone", "vit_micro"), "image_size": 32}, "decoder": {"_target_": target}}
    with pytest.raises(ValueError, match=r"decoder\._target_="):
        segmenter_from_config(config, num_classes=2)
