"""Which attention runs where, and gradients with less memory."""

import pytest
import torch
from torch import Tensor

from segmenter_pl.factory import create_segmenter
from segmenter_pl.models import MaskDecoder, Segmenter
from segmenter_pl.models.encoder import ViTEncoder

TINY = {"embed_dim": 32, "depth": 4, "num_heads": 2, "patch_size": 16}


def fused(model: Segmenter) -> set[bool]:
    return {block.attn.fused_attn for block in [*model.encoder.vit.blocks, *model.decoder.blocks]}


def test_the_explicit_product_is_taken_for_bf16_on_a_cpu_only() -> None:
    model = create_segmenter("vit_micro", "mask", num_classes=5, image_size=64).eval()
    images = torch.randint(0, 256, (2, 3, 64, 80), dtype=torch.uint8)
    expected = model(images)
    assert fused(model) == {True}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(images)
    assert fused(model) == {False}
    with torch.autocast("cpu", dtype=torch.float16):
        model(images)
    assert fused(model) == {True}
    assert torch.equal(model(images), expected)  # back in float32, to the bit


def test_both_ways_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_segmenter("vit_micro", "mask", num_classes=5, image_size=64).double().eval()
    images = torch.randint(0, 256, (2, 3, 64, 80)).double()
    fused_logits = model(images)
    monkeypatch.setattr("segmenter_pl.models.attention.use_fused_attn", lambda: 0)  # TIMM_FUSED_ATTN=0
    explicit_logits = model(images)
    assert fused(model) == {False}
    torch.testing.assert_close(explicit_logits, fused_logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("taps", [(), (2, 4)])
def test_checkpointing_keeps_less_and_changes_nothing(taps: tuple[int, ...]) -> None:
    """Also where blocks draw random numbers."""
    images = torch.randint(0, 256, (2, 3, 64, 80)).float()
    found = {}
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = ViTEncoder(
            "vit_tiny_patch16_224", image_size=64, dropout=0.1, drop_path_rate=0.3, taps=taps,
            checkpointing=checkpointing, **TINY,
        )  # fmt: skip
        kept: list[int] = []

        def keep(tensor: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(tensor.numel())
            return tensor

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            tokens = encoder(images)
        total = sum(one.square().sum() for one in tokens) if taps else tokens.square().sum()
        total.backward()
        gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
        found[checkpointing] = (total, gradients, sum(kept))
    (plain, gradients, whole), (again, others, little) = found[False], found[True]
    assert torch.equal(plain, again)
    assert len(gradients) == len(others) > 20
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    assert little < whole / 3


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("settings", [{}, {"checkpointing": True}, {"token_merging": {"keep": 0.5}}], ids=str)
def test_encoder_and_decoder_are_one_graph_each(settings: dict, bf16: bool) -> None:
    """`compile=true` compiles both; a graph break would send every step back to Python."""
    encoder = ViTEncoder("vit_tiny_patch16_224", image_size=64, drop_path_rate=0.1, **TINY, **settings)
    decoder = MaskDecoder(encoder.width, 5, depth=1, num_heads=2)
    images = torch.randint(0, 256, (2, 3, 64, 80), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for part, arguments in ((encoder, (images,)), (decoder, (encoder(images).detach(), (4, 5)))):
            torch._dynamo.reset()
            told = torch._dynamo.explain(part)(*arguments)
            assert (told.graph_count, told.graph_break_count) == (1, 0), told.break_reasons
