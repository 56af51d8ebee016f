"""Attention weights against recorded ones, timm's own explicit product, brute force and closed forms."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.layers
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from segmenter_pl import load_segmenter
from segmenter_pl.analysis import attention as module
from segmenter_pl.analysis.attention import Attention, number_of_heads, number_of_layers, read_attention
from segmenter_pl.analysis.attention_measures import mean_distance, mean_distances, rollout, rollout_maps
from segmenter_pl.analysis.attention_queries import class_token_query, find_layer, patch_query
from segmenter_pl.analysis.seen import Seen
from segmenter_pl.models import LinearDecoder, MaskDecoder, Segmenter, ViTEncoder

GOLDEN = ["vit_p16_linear", "vit_p16_mask", "vit_p8_linear", "deit_p16_mask"]
SMALL = {"embed_dim": 64, "depth": 3, "num_heads": 2, "image_size": 32}
FAMILIES = {  # timm name: prefix tokens
    "vit_tiny_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "vit_small_patch14_reg4_dinov2": 5,
    "vit_small_patch16_dinov3": 5,
    "vit_base_patch16_siglip_256": 0,
}


def segmenter(name: str = "vit_tiny_patch16_224", *, mask: bool = True, **settings: Any) -> Segmenter:
    """An untrained model of two heads; its queries and keys are enlarged, so that its weights are far from equal."""
    torch.manual_seed(0)
    encoder = ViTEncoder(name, patch_size=8, **{**SMALL, **settings})
    model = Segmenter(encoder, MaskDecoder(64, 5, num_heads=2) if mask else LinearDecoder(64, 5)).eval()
    for key, value in model.named_parameters():
        if key.endswith(("qkv.weight", "q_proj.weight", "k_proj.weight")):
            value.data.mul_(12)
    return model


def picture(height: int = 27, width: int = 42) -> Tensor:
    return torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def everything(attention: Attention) -> Tensor:
    return attention.weights()


@contextmanager
def explicit(blocks: Any) -> Iterator[list[Tensor]]:
    """The soft-max of each block as timm computes it without the fused kernel."""
    seen: list[Tensor] = []
    hooks = [b.attn.attn_drop.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for b in blocks]
    timm.layers.set_fused_attn(False)
    try:
        yield seen
    finally:
        timm.layers.set_fused_attn(True)
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("case", GOLDEN)
def test_weights_equal_the_official_ones(case: str, assets: Path) -> None:
    model = load_segmenter(assets / "golden/official" / case)
    expected = np.load(assets / "golden/official" / case / "expected.npz")
    layers = {"attention_encoder_last": ("enc", model.encoder.depth - 1), "attention_decoder_0": ("dec", 0)}
    assert ("attention_decoder_0" in expected) == ("mask" in case)
    for name in sorted(layers.keys() & set(expected.files)):
        (weights,) = read_attention(model, torch.from_numpy(expected["attention_input"]), [layers[name]], everything)
        np.testing.assert_allclose(weights, expected[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_equal_those_of_the_explicit_product(name: str) -> None:
    """Of prefix tokens of every number, rotated queries and keys, and a picture that is padded to whole patches."""
    model, image = segmenter(name), picture()
    blocks = [*model.encoder.vit.blocks, *model.decoder.blocks]
    layers: list[Any] = [("enc", 0), ("enc", 2), ("dec", 1)]
    with explicit(blocks) as seen, torch.no_grad():
        model(image)
    prefix = FAMILIES[name]
    for found, expected in zip(
        read_attention(model, image, layers, everything), [seen[0], seen[2], seen[4]], strict=True
    ):
        assert expected.max() > 2 / expected.shape[-1]  # far from equal
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    (maps,) = read_attention(model, image, [("enc", 2)], lambda a: a.maps([prefix + 7]))
    torch.testing.assert_close(maps[:, :, 0].flatten(2), seen[2][:, :, prefix + 7, prefix:], atol=1e-5, rtol=1e-4)
    assert maps.shape == (1, 2, 1, 4, 6)


class Calls(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is F.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


def test_the_model_stays_fused_and_as_it_was() -> None:
    model, image = segmenter(), picture()
    with torch.no_grad():
        before = model(image)
    outputs: list[Tensor] = []
    hook = model.decoder.register_forward_hook(lambda *given: outputs.append(given[2]))
    with Calls() as calls:
        read_attention(model, image, [("enc", 1), ("dec", 0)], everything)
    hook.remove()
    assert calls.count == 5  # three blocks and two
    with torch.no_grad():
        assert torch.equal(outputs[0], model.coarse_logits(image))
        assert torch.equal(before, model(image))
    assert all("forward" not in vars(part) for part in model.modules())


def test_the_explicit_product_of_bfloat16_is_read_too() -> None:
    model, image = segmenter(), picture()
    (expected,) = read_attention(model, image, [("enc", 0)], everything)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = read_attention(model, image, [("enc", 0)], everything)
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def test_only_one_softmax_can_be_read() -> None:
    model = segmenter("vit_dlittle_patch16_reg1_gap_256")
    with pytest.raises(ValueError, match="block 0 attends more than once"):
        read_attention(model, picture(), [("enc", 0)], everything)
    assert all("forward" not in vars(part) for part in model.modules())


def test_merged_tokens_are_apart_while_attention_is_read() -> None:
    model, merging = segmenter(), segmenter(token_merging={"keep": 0.5, "after": 1})
    merging.load_state_dict(model.state_dict())
    for layer in (("enc", 2), ("dec", 0)):
        (expected,), (found,) = (read_attention(one, picture(), [layer], everything) for one in (model, merging))
        assert torch.equal(found, expected)
    assert merging.encoder.merging is not None


def test_layers_and_heads_are_counted() -> None:
    model, linear = segmenter(), segmenter(mask=False)
    assert (number_of_layers(model, "enc"), number_of_layers(model, "dec")) == (3, 2)
    assert number_of_layers(linear, "dec") == 0
    assert number_of_heads(model, ("dec", 1)) == 2
    assert find_layer(model, "enc", -1) == ("enc", 2)
    with pytest.raises(ValueError, match=r"--layer-id -4: the encoder has 3 layers: give 0 to 2"):
        find_layer(model, "enc", -4)
    with pytest.raises(ValueError, match="decoder has no attention"):
        find_layer(linear, "dec", 0)
    with pytest.raises(ValueError, match="no class token"):
        class_token_query(segmenter("vit_base_patch16_siglip_256"))
    seen = Seen(picture()[0].permute(1, 2, 0).numpy(), picture(), 8)
    assert patch_query(model, "enc", seen, 4, 1).row == 1 + 1 * 6 + 4
    assert patch_query(model, "dec", seen, 4, 1).row == 1 * 6 + 4


def made(query: Tensor, key: Tensor, grid: tuple[int, int], prefix: int = 0) -> Attention:
    return Attention(query, key, 1.0, slice(prefix, prefix + grid[0] * grid[1]), grid)


def test_distances_of_attention_made_by_hand() -> None:
    grid, count = (1, 7), 7
    zeros, eye = torch.zeros(1, 1, count, count), 1000 * torch.eye(count)[None, None]
    # The mean of |i - j| over all pairs of 0…n-1 is (n² - 1) / (3n).
    assert mean_distance(made(zeros, eye, grid), 4).item() == pytest.approx(4 * 48 / 21, abs=1e-5)
    assert mean_distance(made(eye, eye, grid), 4).item() == pytest.approx(0, abs=1e-6)
    corner = torch.zeros(1, 1, 12, 1)
    corner[0, 0, 0] = 1000  # the key of the upper left patch
    distances = [float(np.hypot(y, x)) for y in range(3) for x in range(4)]
    found = mean_distance(made(torch.ones(1, 1, 12, 1), corner, (3, 4)), 16)
    assert found.item() == pytest.approx(16 * float(np.mean(distances)), abs=1e-4)


@pytest.mark.parametrize("chunk", [2**26, 1])
def test_distances_equal_brute_force(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures, three heads, two prefix tokens; also a row at a time."""
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    height, width, prefix = 3, 5, 2
    query, key = torch.randn(2, 2, 3, prefix + 15, 4, generator=torch.Generator().manual_seed(0))
    found = mean_distance(made(query, key, (height, width), prefix), 16)
    for b in range(2):
        for a in range(3):
            scores = (query[b, a].double() @ key[b, a].double().T).numpy()
            weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            rows = []
            for i in range(15):
                seen = total = 0.0
                for j in range(15):
                    apart = 16 * np.hypot(i // width - j // width, i % width - j % width)
                    seen += weights[prefix + i, prefix + j] * apart
                    total += weights[prefix + i, prefix + j]
                rows.append(seen / total)
            assert found[b, a].item() == pytest.approx(np.mean(rows), abs=1e-4)


def test_distances_of_a_model_are_those_of_its_layers() -> None:
    model, image = segmenter("deit_tiny_distilled_patch16_224"), picture()
    found = mean_distances(model, image)
    assert found.shape == (1, 3, 2)
    (expected,) = read_attention(model, image, [("enc", 1)], lambda a: mean_distance(a, 8))
    assert torch.equal(found[:, 1], expected)


def chain(weights: list[Tensor]) -> Tensor:
    """The product of (A + I) / 2, the last layer leftmost (T, T)."""
    product = torch.eye(weights[0].shape[-1], dtype=torch.float64)
    for one in weights:
        product = (one[0].double().mean(0) + torch.eye(len(product), dtype=torch.float64)) / 2 @ product
    return product


@pytest.mark.parametrize("chunk", [2**26, 1])
def test_rollout_equals_the_product_of_matrices(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    model, image, rows = segmenter(), picture(), [0, 9]
    layers: list[Any] = [("enc", 0), ("enc", 1), ("enc", 2), ("dec", 0), ("dec", 1)]
    weights = read_attention(model, image, layers, everything)
    encoder = chain(weights[:2])
    found = rollout_maps(model, image, ("enc", 1), rows)
    assert found.shape == (1, 1, 2, 4, 6)
    torch.testing.assert_close(found[0, 0].flatten(1).double(), encoder[rows, 1:], atol=1e-6, rtol=1e-5)
    # Of a class: through the decoder to its patches, and from there through the encoder.
    encoder, decoder = chain(weights[:3]), chain(weights[3:])
    expected = decoder[[24, 28], :24] @ encoder[1:, 1:]
    found = rollout_maps(model, image, ("dec", 1), [24, 28])
    torch.testing.assert_close(found[0, 0].flatten(1).double(), expected, atol=1e-6, rtol=1e-5)


def test_rollout_keeps_sums() -> None:
    query, key = torch.randn(2, 1, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    layer = made(query, key, (2, 3))
    start = torch.tensor([[[1.0, 0, 0, 0, 0, 0], [0, 0.25, 0.75, 0, 0, 0]]])
    torch.testing.assert_close(rollout([layer] * 4, start).sum(-1), torch.ones(1, 2))


@pytest.mark.parametrize("short_side", [None, 9, 24, 61])
def test_each_pixel_has_the_patch_that_its_centre_lies_in(short_side: int | None) -> None:
    height, width = 24, 37
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    seen = Seen.whole(rgb, short_side, 8, torch.device("cpu"))
    rows, columns = seen.image.shape[-2:]
    assert min(rows, columns) == (short_side or 24)
    assert seen.grid == (-(-rows // 8), -(-columns // 8))
    numbers = np.arange(seen.grid[0] * seen.grid[1]).reshape(seen.grid)
    full = seen.full_size(numbers)
    for y in range(height):
        for x in range(width):
            expected = int((x + 0.5) / width * columns // 8), int((y + 0.5) / height * rows // 8)
            assert seen.patch_at(x, y) == expected
            assert full[y, x] == numbers[expected[1], expected[0]]
            left, right, top, bottom = seen.box(*expected)
            assert left <= x <= right
            assert top <= y <= bottom
    if short_side in (None, 24):
        assert np.array_equal(seen.image[0].permute(1, 2, 0).numpy(), rgb)
