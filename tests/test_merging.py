"""Merged tokens against loops over tokens, and models that merge, through everything that models go through."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from segmenter_pl import build, load_segmenter, searchpath
from segmenter_pl.export.graphs import export_graph
from segmenter_pl.export.pretrained import save_pretrained
from segmenter_pl.factory import segmenter_from_config
from segmenter_pl.interop import Blueprint
from segmenter_pl.interop.official import write_official
from segmenter_pl.models import ModelSpec, Segmenter, ViTEncoder
from segmenter_pl.models.merging import TokenMerging
from tests.export.test_graphs import RUNNERS, SIZES, SUFFIXES, assert_equal

VIT = "vit_tiny_patch16_224"
TINY = {"image_size": 64, "embed_dim": 32, "depth": 4, "num_heads": 2}
GRIDS = [(1, 1), (1, 6), (2, 2), (3, 3), (4, 4), (5, 8), (7, 4)]


def pictures(height: int, width: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


def tokens(grid: tuple[int, int], prefix: int = 1, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, prefix + grid[0] * grid[1], 8, generator=torch.Generator().manual_seed(0)).double()


def groups(x: np.ndarray, grid: tuple[int, int], keep: float) -> list[list[int]]:
    """Places of the tokens (N, D) of one picture that become one, the target first."""
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    made = {k: [k] for k, (row, column) in enumerate(places) if row % 2 == column % 2 == 0}
    sources = [k for k in range(len(places)) if k not in made]
    number = int(len(sources) * (1 - keep) / 0.75 + 1e-9)
    best = []
    for k in sources:
        likeness = {t: x[k] @ x[t] / np.linalg.norm(x[k]) / np.linalg.norm(x[t]) for t in made}
        best.append((max(likeness.values()), k, max(likeness, key=lambda t: likeness[t])))
    best.sort(reverse=True)
    for _, k, t in best[:number]:
        made[t].append(k)
    return [*made.values(), *([k] for _, k, _ in best[number:])]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("keep", [0.25, 0.5, 0.7, 0.9])
def test_merging_and_restoring_are_those_of_loops_over_tokens(grid: tuple[int, int], keep: float) -> None:
    x = tokens(grid, prefix=2)
    merged, restore = TokenMerging(keep, 1, prefix=2)(x, grid)
    changed = merged.square()
    back = restore(changed)
    assert back.shape == x.shape
    torch.testing.assert_close(merged[:, :2], x[:, :2], atol=0, rtol=0)
    torch.testing.assert_close(back[:, :2], changed[:, :2], atol=0, rtol=0)
    for k in range(2):
        one = x[k, 2:].numpy()
        expected = groups(one, grid, keep)
        means = np.stack([one[places].mean(0) for places in expected])
        found = merged[k, 2:].numpy()
        assert found.shape == means.shape
        np.testing.assert_allclose(found[np.lexsort(found.T)], means[np.lexsort(means.T)], atol=1e-6)
        after = one.copy()
        for places, mean in zip(expected, means, strict=True):
            after[places] += mean**2 - mean
        np.testing.assert_allclose(back[k, 2:], after, atol=1e-5)


@pytest.mark.parametrize(("keep", "left"), [(0.25, 256), (0.5, 512), (0.7, 717), (0.9, 922), (0.99, 1014)])
def test_the_budget_is_a_part_of_the_grid(keep: float, left: int) -> None:
    merged, _ = TokenMerging(keep, 1, prefix=1)(tokens((32, 32)), (32, 32))
    assert merged.shape[1] == 1 + left


def test_gradients_are_those_of_finite_differences() -> None:
    grid = (3, 4)
    x = tokens(grid).requires_grad_()

    def through(x: torch.Tensor) -> torch.Tensor:
        merged, restore = TokenMerging(0.5, 1, prefix=1)(x, grid)
        return restore(merged.sin())

    assert torch.autograd.gradcheck(through, (x,))


def test_autocast_merges_the_same_tokens() -> None:
    x = tokens((8, 8)).float()
    merged, restore = TokenMerging(0.5, 1, prefix=1)(x, (8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        found, put_back = TokenMerging(0.5, 1, prefix=1)(x, (8, 8))
        assert torch.equal(found, merged)
        assert torch.equal(put_back(found + 1), restore(merged + 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: on a CPU sums have one order anyway")
def test_a_cuda_device_gives_the_same_bits_each_time() -> None:
    x = tokens((32, 32), batch=4).float().cuda()

    def once() -> tuple[torch.Tensor, torch.Tensor]:
        start = x.clone().requires_grad_()
        merged, restore = TokenMerging(0.5, 1, prefix=1)(start, (32, 32))
        end = restore(merged.square())
        end.square().sum().backward()
        assert start.grad is not None
        return end.detach(), start.grad

    first = once()
    assert all(torch.equal(a, b) for _ in range(5) for a, b in zip(first, once(), strict=True))


@pytest.mark.parametrize("setting", [None, {}, {"keep": 1}, {"keep": 1.0, "after": None}])
def test_without_merging_nothing_changes(setting: dict | None) -> None:
    torch.manual_seed(0)
    usual = ViTEncoder(VIT, **TINY).eval()
    encoder = ViTEncoder(VIT, token_merging=setting, **TINY).eval()
    encoder.load_state_dict(usual.state_dict())
    assert encoder.merging is None
    assert torch.equal(encoder(pictures(50, 70)), usual(pictures(50, 70)))


@pytest.mark.parametrize(
    ("model_name", "prefix"),
    [
        (VIT, 1),
        ("deit_tiny_distilled_patch16_224", 2),
        ("vit_small_patch14_reg4_dinov2", 5),
        ("vit_base_patch16_siglip_224", 0),
    ],
)
def test_later_blocks_see_fewer_tokens_and_the_result_has_all(model_name: str, prefix: int) -> None:
    encoder = ViTEncoder(model_name, token_merging={"keep": 0.5, "after": 2}, **TINY).eval()
    counts: list[int] = []
    for block in encoder.vit.blocks:
        block.register_forward_hook(lambda module, args, out: counts.append(args[0].shape[1] - prefix))
    size = 5 * encoder.patch_size - 3, 6 * encoder.patch_size
    assert encoder(pictures(*size)).shape == (2, 30, 32)
    assert counts == [30, 30, 16, 16]  # 9 targets, 21 sources of which 14 are merged


def test_pictures_of_a_batch_are_merged_on_their_own() -> None:
    encoder = ViTEncoder(VIT, token_merging={"keep": 0.4}, **TINY).eval()
    images = pictures(64, 90, batch=3)
    torch.testing.assert_close(encoder(images), torch.cat([encoder(one[None]) for one in images]), atol=1e-5, rtol=0)


def test_taps_have_all_tokens() -> None:
    torch.manual_seed(0)
    encoder = ViTEncoder(VIT, taps=(1, 2, 3), token_merging={"keep": 0.5, "after": 2}, **TINY).eval()
    usual = ViTEncoder(VIT, taps=(1, 2, 3), **TINY).eval()
    usual.load_state_dict(encoder.state_dict())
    found, expected = encoder(pictures(64, 64)), usual(pictures(64, 64))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])  # behind the very block, they are what they were
    assert found[2].shape == expected[2].shape
    assert not torch.allclose(found[2], expected[2])


def test_the_default_block_is_a_third() -> None:
    afters = [
        getattr(ViTEncoder(VIT, token_merging={"keep": 0.5}, **{**TINY, "depth": depth}).merging, "after", None)
        for depth in (2, 3, 4, 12)
    ]
    assert afters == [1, 1, 1, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (0.7, r"backbone.token_merging=0.7: give keep and after, such as backbone.token_merging.keep=0.7, or null"),
        ({"kep": 0.7}, "give keep and after"),
        ({"keep": 0.2}, r"backbone.token_merging.keep=0.2: give the part of the tokens that is left, 0.25 to 1"),
        ({"keep": 70}, "keep=70: give the part"),
        ({"keep": "half"}, "keep=half: give the part"),
        ({"keep": True}, "keep=True: give the part"),
        ({"keep": float("nan")}, "keep=nan: give the part"),
        (
            {"keep": 0.5, "after": 0},
            r"token_merging.after=0: give the number of a block, from 1 to 3, or null",
        ),
        ({"keep": 0.5, "after": 4}, "after=4: give the number"),
        ({"keep": 0.5, "after": [1]}, r"after=\[1\]: give the number"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTEncoder(VIT, token_merging=settings, **TINY)


def test_models_that_rotate_positions_are_refused() -> None:
    small = {**TINY, "depth": 2, "embed_dim": 384, "num_heads": 6}
    with pytest.raises(ValueError, match=r"keep=0.5: this backbone rotates positions .* Give .*keep=1, or a backbone"):
        ViTEncoder("vit_small_patch16_dinov3", token_merging={"keep": 0.5}, **small)
    assert ViTEncoder("vit_small_patch16_dinov3", token_merging={"keep": 1.0}, **small).merging is None


def test_blocks_behind_the_last_tap_do_not_count() -> None:
    with pytest.raises(ValueError, match=r"after=2: give the number of a block, from 1 to 1"):
        ViTEncoder(VIT, taps=(2,), token_merging={"keep": 0.5, "after": 2}, **TINY)


@pytest.mark.parametrize("taps", [(), pytest.param((1, 2), marks=pytest.mark.slow)])
def test_compiles_as_one_graph(taps: tuple[int, ...]) -> None:
    torch._dynamo.reset()
    encoder = ViTEncoder(VIT, taps=taps, token_merging={"keep": 0.5, "after": 1}, **{**TINY, "depth": 2}).eval()
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    images = pictures(40, 72)
    torch.testing.assert_close(compiled(images), encoder(images), atol=1e-5, rtol=0)


def model_that_merges(decoder: str = "MaskDecoder", keep: float = 0.6, **settings: Any) -> Segmenter:
    torch.manual_seed(0)
    backbone = {"_target_": "segmenter_pl.models.ViTEncoder", "model_name": VIT, "embed_dim": 64, "num_heads": 1}
    backbone |= {"image_size": 24, "patch_size": 8, "depth": 2, "token_merging": {"keep": keep, "after": 1}}
    config = {"backbone": backbone, "decoder": {"_target_": f"segmenter_pl.models.{decoder}", **settings}}
    model = segmenter_from_config(config, num_classes=5).eval()
    model.spec = ModelSpec(None, None, 255, window=24, stride=16, short_side=None)
    return model


@pytest.mark.parametrize("decoder", ["MaskDecoder", "LinearDecoder"])
def test_training_reaches_every_parameter(decoder: str) -> None:
    model = model_that_merges(decoder).train()
    model.coarse_logits(pictures(41, 50)).square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()] == []


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("format", "keep"),
    [
        ("torchscript", 0.6),
        ("torchscript", 0.25),
        pytest.param("onnx", 0.6, marks=slow),
        pytest.param("onnx", 0.25, marks=slow),
        pytest.param("torch-export", 0.6, marks=slow),
        pytest.param("torch-export", 0.25, marks=slow),
    ],
)
def test_graphs_for_all_sizes(tmp_path: Path, format: str, keep: float) -> None:
    model, path = model_that_merges(keep=keep, depth=1), tmp_path / f"model{SUFFIXES[format]}"
    export_graph(model, path, format)
    # torch.export takes it for granted that there is more than one target: pictures beyond two by two patches.
    sizes = [size for size in SIZES if format != "torch-export" or max(size[1:]) > 16]
    assert_equal(model, RUNNERS[format](path), [*sizes, (1, 200, 120)])


def test_a_saved_model_merges_and_one_from_before_does_not(tmp_path: Path) -> None:
    model = model_that_merges()
    save_pretrained(model, tmp_path / "model")
    loaded = load_segmenter(tmp_path / "model")
    assert loaded.encoder.merging == TokenMerging(0.6, 1, prefix=1)
    assert torch.equal(loaded(pictures(40, 40)), model(pictures(40, 40)))
    blueprint = Blueprint.of(model)
    del blueprint.backbone["token_merging"]
    assert blueprint.build().encoder.merging is None


def test_other_implementations_cannot_merge() -> None:
    with pytest.raises(ValueError, match=r"cannot merge tokens: only a model with .*keep=1, not 0\.6"):
        write_official(Blueprint.of(model_that_merges()))


@pytest.fixture
def hydra() -> Iterator[None]:
    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["backbone.token_merging=null"], None),
        (["backbone.token_merging.keep=0.7"], TokenMerging(0.7, 1, prefix=1)),
        (["backbone.token_merging={keep:0.5,after:3}"], TokenMerging(0.5, 3, prefix=1)),
    ],
)
@pytest.mark.usefixtures("hydra")
def test_it_is_a_setting(words: list[str], expected: TokenMerging | None) -> None:
    config = compose("train", overrides=["backbone=vit_micro", *words])
    assert build.build_model(config, num_classes=3).encoder.merging == expected
