import pytest
import torch
import torch.nn.functional as F

from segmenter_pl.models import LinearDecoder, MaskDecoder, Segmenter, ViTEncoder


def test_mask_decoder_computes_the_papers_formula() -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(32, 5, depth=1, num_heads=2).eval()
    tokens = torch.randn(2, 6, 32)
    x = torch.cat(
        [F.linear(tokens, decoder.proj_dec.weight, decoder.proj_dec.bias), decoder.cls_emb.repeat(2, 1, 1)], 1
    )
    x = decoder.decoder_norm(decoder.blocks[0](x))
    patches, classes = x[:, :6] @ decoder.proj_patch, x[:, 6:] @ decoder.proj_classes
    cosines = F.cosine_similarity(patches[:, :, None], classes[:, None], dim=-1)  # (B, N, K)
    centred = cosines - cosines.mean(-1, keepdim=True)
    expected = centred / (cosines.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    logits = decoder(tokens, (2, 3))
    torch.testing.assert_close(logits, expected.transpose(1, 2).reshape(2, 5, 2, 3), atol=1e-5, rtol=0)


def test_linear_decoder_is_one_map_per_patch() -> None:
    decoder = LinearDecoder(32, 5)
    tokens = torch.randn(2, 6, 32)
    logits = decoder(tokens, (2, 3))
    torch.testing.assert_close(logits[1, :, 1, 0], decoder.head(tokens[1, 3]))


def test_initialisation_and_rates_are_the_papers() -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(192, 150, depth=3, dropout=0.1, drop_path_rate=0.2, block_norm_eps=1e-4, norm_eps=1e-3)
    assert decoder.proj_patch.std().item() == pytest.approx(192**-0.5, rel=0.02)
    assert decoder.proj_classes.std().item() == pytest.approx(192**-0.5, rel=0.02)
    assert decoder.cls_emb.std().item() == pytest.approx(0.02, rel=0.02)
    for block in decoder.blocks:
        assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert not block.attn.qkv.bias.any()
        assert block.attn.num_heads == 3
        assert [block.attn.attn_drop.p, block.attn.proj_drop.p, block.mlp.drop1.p, block.mlp.drop2.p] == [0.1] * 4
        assert block.norm1.eps == 1e-4
    assert decoder.decoder_norm.eps == decoder.mask_norm.eps == 1e-3
    assert [getattr(b.drop_path1, "drop_prob", 0.0) for b in decoder.blocks] == pytest.approx([0.0, 0.1, 0.2])


def test_a_patch_of_zeros_gives_finite_logits_and_gradients() -> None:
    decoder = MaskDecoder(32, 5, depth=0)
    torch.nn.init.zeros_(decoder.decoder_norm.weight)
    decoder(torch.randn(1, 4, 32), (2, 2)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in decoder.parameters())


def test_auto_scales_two_classes_and_normalises_more() -> None:
    assert isinstance(MaskDecoder(32, 3).mask_norm, torch.nn.LayerNorm)
    assert MaskDecoder(32, 2).mask_norm.log_scale.exp().item() == pytest.approx(10.0)
    assert MaskDecoder(32, 3, mask_norm="scale").mask_norm.log_scale.shape == ()
    with pytest.raises(ValueError, match=r"decoder\.mask_norm=none"):
        MaskDecoder(32, 3, mask_norm="none")
    with pytest.raises(ValueError, match=r"decoder\.num_heads=3"):
        MaskDecoder(32, 3, num_heads=3)


def test_layer_norm_over_two_classes_forgets_the_scores() -> None:
    scores = torch.tensor([[0.9, -0.9], [0.6, 0.4]], requires_grad=True)  # a certain patch, a doubtful one
    layer = MaskDecoder(32, 2, mask_norm="layer").mask_norm(scores)
    torch.testing.assert_close(layer, torch.tensor([[1.0, -1.0], [1.0, -1.0]]), atol=1e-3, rtol=0)
    scale = MaskDecoder(32, 2).mask_norm(scores)
    torch.testing.assert_close(scale, 10 * scores)
    gradients = [torch.autograd.grad(out[0, 0], scores, retain_graph=True)[0].abs().max() for out in (layer, scale)]
    assert gradients[0] < 1e-4
    assert gradients[1] == pytest.approx(10.0)


def small_objects(batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randint(0, 120, (batch, 3, 32, 32), generator=generator).float()
    target = torch.zeros(batch, 32, 32, dtype=torch.long)
    for image, labels in zip(images, target, strict=True):
        top, left = (4 * torch.randint(0, 6, (2,), generator=generator)).tolist()
        height, width = (4 * torch.randint(1, 3, (2,), generator=generator)).tolist()
        image[:, top : top + height, left : left + width] += 100
        labels[top : top + height, left : left + width] = 1
    return images, target


def learn_two_classes(mask_norm: str) -> float:
    """mIoU on fresh pictures after 150 steps of the paper's SGD; objects cover about 3 % of the pixels."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    encoder = ViTEncoder("vit_tiny_patch16_224", image_size=32, patch_size=4, embed_dim=32, depth=1, num_heads=2)
    model = Segmenter(encoder, MaskDecoder(32, 2, depth=1, dropout=0.0, mask_norm=mask_norm))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)
    for _ in range(150):
        images, target = small_objects(8, generator)
        loss = F.cross_entropy(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images, target = small_objects(32, generator)
    with torch.no_grad():
        labels = model.eval()(images).argmax(1)
    ious = [((labels == k) & (target == k)).sum() / ((labels == k) | (target == k)).sum() for k in (0, 1)]
    return float(sum(ious)) / 2


def test_two_classes_are_learned_with_auto_but_not_with_layer() -> None:
    assert learn_two_classes("auto") > 0.9
    assert learn_two_classes("layer") < 0.88
