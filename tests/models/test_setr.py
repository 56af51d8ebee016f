"""SETR's decoders: sizes of the published models, and their formulas written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segmenter_pl.factory import create_segmenter
from segmenter_pl.models import SETRMLA, SETRPUP, Segmenter, SETRNaive, ViTEncoder

# PaddleViT's SETR of ViT-L/16 at 512 pixels and 150 classes, which counts BatchNorm's running statistics; what it has
# beside ours: auxiliary heads (a LayerNorm, a convolution with bias, BatchNorm, classifier), biases of convolutions.
ENCODER = 304_149_504
NAIVE_HEAD = 2048 + (1024 * 256 + 256) + 4 * 256 + (256 * 150 + 150)
PUP_HEAD = 2048 + (9 * 1024 * 256 + 256) + 4 * 256 + (256 * 150 + 150)
MLA_HEAD = 256 * 150
BESIDE = {"naive": 3 * NAIVE_HEAD + 256, "pup": 4 * PUP_HEAD + 4 * 256, "mla": 4 * MLA_HEAD - 2048}
PUBLISHED = {"naive": 305_363_544, "pup": 317_926_638, "mla": 310_190_230}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_as_many_numbers_as_the_published_models(kind: str) -> None:
    with torch.device("meta"):
        model = create_segmenter("vit_l16", f"setr_{kind}", num_classes=150, image_size=512)
    numbers = [*model.parameters(), *(b for name, b in model.named_buffers() if "running" in name)]
    assert sum(p.numel() for p in model.encoder.parameters()) == ENCODER
    assert sum(one.numel() for one in numbers) + BESIDE[kind] == PUBLISHED[kind]


def normalised(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    convolution, norm, _ = layer
    x = F.conv2d(x, convolution.weight, padding=convolution.weight.shape[-1] // 2)
    mean, variance = norm.running_mean.view(1, -1, 1, 1), norm.running_var.view(1, -1, 1, 1)
    return ((x - mean) / (variance + norm.eps).sqrt() * norm.weight.view(1, -1, 1, 1)).clamp(min=0)


def test_naive_is_a_hidden_layer_per_patch() -> None:
    decoder = SETRNaive(8, 3, channels=4).eval()
    tokens = torch.randn(2, 6, 8)
    hidden = (tokens @ decoder.layer[0].weight.flatten(1).T / (1 + 1e-5) ** 0.5).clamp(min=0)
    expected = hidden @ decoder.head.weight.flatten(1).T + decoder.head.bias  # (B, N, K)
    torch.testing.assert_close(decoder(tokens, (2, 3)), expected.mT.reshape(2, 3, 2, 3), atol=1e-5, rtol=0)


def test_pup_leaves_the_last_doubling_to_who_reads_it() -> None:
    torch.manual_seed(0)
    decoder = SETRPUP(8, 3, channels=4).eval()
    tokens = torch.randn(2, 6, 8)
    x = tokens.mT.reshape(2, 8, 2, 3)
    for layer in decoder.layers:  # as it is published: four convolutions, each doubling, and then the classifier
        x = F.interpolate(normalised(layer, x), scale_factor=2, mode="bilinear")
    expected = F.conv2d(x, decoder.head.weight, decoder.head.bias)
    found = F.interpolate(decoder(tokens, (2, 3)), scale_factor=2, mode="bilinear")
    assert found.shape == (2, 3, 32, 48)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_mla_adds_deeper_tokens_to_shallower_ones() -> None:
    torch.manual_seed(0)
    decoder = SETRMLA(8, 3, channels=4).eval()
    tokens = [torch.randn(2, 6, 8) for _ in range(4)]
    maps = [F.layer_norm(one, (8,), eps=1e-6).mT.reshape(2, 8, 2, 3) for one in tokens]
    laterals = [normalised(layer, x) for layer, x in zip(decoder.laterals, maps, strict=True)]
    levels = []
    for level in range(4):
        x = normalised(decoder.merged[level], sum(laterals[level + 1 :], laterals[level]))
        for layer in decoder.levels[level]:
            x = normalised(layer, x)
        levels.append(F.interpolate(x, scale_factor=4, mode="bilinear"))
    expected = F.conv2d(torch.cat(levels, 1), decoder.head.weight, decoder.head.bias, padding=1)
    torch.testing.assert_close(decoder(tokens, (2, 3)), expected, atol=1e-5, rtol=0)


def test_the_encoder_is_tapped_at_its_quarters_unless_told_otherwise() -> None:
    def encoder(depth: int, taps: tuple[int, ...] = ()) -> ViTEncoder:
        small = {"image_size": 32, "embed_dim": 32, "num_heads": 2}
        return ViTEncoder("vit_tiny_patch16_224", depth=depth, taps=taps, **small)

    assert Segmenter(encoder(12), SETRMLA(32, 3, channels=4)).encoder.taps == (3, 6, 9, 12)
    tapped = Segmenter(encoder(6, (2, 3, 4, 5)), SETRMLA(32, 3, channels=4)).encoder
    assert tapped.taps == (2, 3, 4, 5)
    assert not tapped.vit.norm.weight.requires_grad
    with pytest.raises(ValueError, match=r"needs tokens of 4 blocks, and the encoder has 3"):
        Segmenter(encoder(3), SETRMLA(32, 3))
    with pytest.raises(ValueError, match=r"backbone.taps=\[1, 2\]: this decoder needs tokens of 4 blocks"):
        Segmenter(encoder(4, (1, 2)), SETRMLA(32, 3))
    with pytest.raises(ValueError, match=r"backbone.taps=\[2, 4\]: this decoder takes tokens of one depth"):
        Segmenter(encoder(4, (2, 4)), SETRNaive(32, 3))
