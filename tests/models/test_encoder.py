import pytest
import timm
import torch
import torch.nn.functional as F

from segmenter_pl.models import ViTEncoder

TINY = {"image_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2}
VIT, DISTILLED = "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"


def pictures(height: int, width: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("model_name", "prefix", "keywords"),
    [
        (VIT, 1, {}),
        (DISTILLED, 2, {}),
        ("deit3_small_patch16_224", 1, {}),
        ("vit_small_patch14_reg4_dinov2", 5, {}),
        ("vit_base_patch16_siglip_224", 0, {}),
        ("vit_base_patch16_clip_224", 1, {}),
        ("vit_small_patch16_dinov3", 5, {"depth": 1, "embed_dim": 384, "num_heads": 6}),
        ("eva02_tiny_patch14_336", 1, {"depth": 1, "embed_dim": 192, "num_heads": 3}),
    ],
)
def test_tokens_are_those_of_timm_at_the_built_grid(model_name: str, prefix: int, keywords: dict) -> None:
    encoder = ViTEncoder(model_name, **{**TINY, **keywords}).eval()
    side = encoder.vit.patch_embed.img_size[0]  # 64, or 70 where P = 14
    images = pictures(side, side)
    mean, std = (torch.tensor(encoder.vit.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    reference = encoder.vit.forward_features((images / 255 - mean) / std)[:, prefix:]
    torch.testing.assert_close(encoder(images), encoder.vit.fc_norm(reference), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("model_name", "keywords"),
    [
        (VIT, {}),
        (DISTILLED, {}),
        ("vit_small_patch14_dinov2", {}),
        ("vit_small_patch14_reg4_dinov2", {}),
        ("vit_small_patch16_dinov3", {"depth": 1, "embed_dim": 384, "num_heads": 6}),
        ("eva02_tiny_patch14_336", {"depth": 1, "embed_dim": 192, "num_heads": 3}),
    ],
)
@pytest.mark.parametrize("size", [(5, 9), (64, 64), (33, 130), (130, 33)])
def test_any_size_gives_one_token_per_patch(model_name: str, keywords: dict, size: tuple[int, int]) -> None:
    encoder = ViTEncoder(model_name, **{**TINY, **keywords})
    h, w = (-(-side // encoder.patch_size) for side in size)
    assert encoder.grid(*size) == (h, w)
    assert encoder(pictures(*size)).shape == (1, h * w, encoder.width)


def test_position_table_is_resized_when_the_grid_differs_not_the_count() -> None:
    encoder = ViTEncoder(VIT, **{**TINY, "image_size": 256})
    square, wide = encoder.position_table((16, 16)), encoder.position_table((4, 64))
    assert square is encoder.vit.pos_embed
    assert wide.shape == square.shape
    assert not torch.allclose(wide, square)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("model_name", "prefix"), [(VIT, 1), (DISTILLED, 2)])
def test_position_table_resize_is_interpolate_on_the_grid(mode: str, model_name: str, prefix: int) -> None:
    encoder = ViTEncoder(model_name, position_mode=mode, **TINY)
    table = encoder.vit.pos_embed
    image = table[:, prefix:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=(3, 7), mode=mode, align_corners=False, antialias=False)
    expected = torch.cat([table[:, :prefix], image.permute(0, 2, 3, 1).reshape(1, 21, 32)], dim=1)
    torch.testing.assert_close(encoder.position_table((3, 7)), expected, atol=0, rtol=0)


def test_position_table_is_stored_at_the_padded_grid() -> None:
    assert ViTEncoder(VIT, **{**TINY, "image_size": (64, 50)}).vit.pos_embed.shape == (1, 1 + 4 * 4, 32)
    assert ViTEncoder("vit_small_patch14_dinov2", **TINY).vit.pos_embed.shape == (1, 1 + 5 * 5, 32)


def test_padding_is_the_mean_colour_on_the_right_and_below() -> None:
    encoder = ViTEncoder(VIT, **TINY).eval()  # statistics 0.5: the mean colour is 127.5
    images = pictures(50, 61).float()
    padded = F.pad(images, (0, 3, 0, 14), value=127.5)
    torch.testing.assert_close(encoder(images), encoder(padded), atol=1e-6, rtol=0)


def test_uint8_and_float_pictures_agree() -> None:
    encoder = ViTEncoder(VIT, **TINY).eval()
    images = pictures(64, 64)
    assert torch.equal(encoder(images), encoder(images.float()))


def test_taps_are_the_raw_outputs_of_the_blocks() -> None:
    encoder = ViTEncoder(VIT, taps=(1, 3), **{**TINY, "depth": 4}).eval()
    outputs = {}
    for number, block in enumerate(encoder.vit.blocks, start=1):
        block.register_forward_hook(lambda module, args, out, number=number: outputs.update({number: out}))
    first, third = encoder(pictures(64, 64))
    assert torch.equal(first, outputs[1][:, 1:])
    assert torch.equal(third, outputs[3][:, 1:])
    (first.sum() + third.sum()).backward()
    assert all((p.grad is not None) == p.requires_grad for p in encoder.parameters())
    for taps in ((0,), (5,), (3, 1)):
        with pytest.raises(ValueError, match=r"backbone\.taps"):
            ViTEncoder(VIT, taps=taps, **{**TINY, "depth": 4})


def test_a_frozen_encoder_stays_as_it_is() -> None:
    encoder = ViTEncoder(VIT, freeze=True, dropout=0.5, drop_path_rate=0.5, **TINY).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not encoder(pictures(64, 64)).requires_grad


def test_rates_and_epsilons_reach_every_layer() -> None:
    encoder = ViTEncoder(
        VIT, dropout=0.2, drop_path_rate=0.3, norm_eps=1e-4, final_norm_eps=1e-3, **{**TINY, "depth": 4}
    )
    vit = encoder.vit
    assert vit.pos_drop.p == 0.2
    for block in vit.blocks:
        drops = [block.attn.attn_drop.p, block.attn.proj_drop.p, block.mlp.drop1.p, block.mlp.drop2.p]
        assert drops == [0.2] * 4
        assert (block.norm1.eps, block.norm2.eps) == (1e-4, 1e-4)
    assert vit.norm.eps == 1e-3
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in vit.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert ViTEncoder(VIT, **TINY).vit.norm.eps == timm.create_model(VIT, depth=1).norm.eps == 1e-6


@pytest.mark.parametrize(
    "model_name",
    ["swin_tiny_patch4_window7_224", "resnet18", "beit_base_patch16_224", "vit_tiny_r_s16_p8_224", "no_such_model"],
)
def test_models_that_are_no_plain_vit_are_refused(model_name: str) -> None:
    with pytest.raises(ValueError, match=f"backbone.model_name={model_name}"):
        ViTEncoder(model_name, image_size=224)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="drop_pth_rate"):
        ViTEncoder(VIT, drop_pth_rate=0.1, **TINY)
    with pytest.raises(ValueError, match="position_mode"):
        ViTEncoder(VIT, position_mode="nearest", **TINY)


@pytest.mark.parametrize("model_name", [VIT, "eva02_tiny_patch14_336"])
def test_compiles_as_one_graph(model_name: str) -> None:
    encoder = ViTEncoder(model_name, **{**TINY, "depth": 1, "embed_dim": 64}).eval()
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    images = pictures(40, 72)
    torch.testing.assert_close(compiled(images), encoder(images), atol=1e-5, rtol=0)
