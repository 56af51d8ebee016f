"""Stochastic depth whose draws belong to pictures, not to devices."""

import pytest
import torch
from timm.layers import DropPath
from torch._dynamo.testing import CompileCounter

from segmenter_pl.models import LinearDecoder, MaskDecoder, Segmenter, ViTEncoder
from segmenter_pl.stochastic_depth import DepthDraws, StochasticDepth


def model(rate: float = 0.5) -> Segmenter:
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 3}
    encoder = ViTEncoder("vit_tiny_patch16_224", drop_path_rate=rate, **sizes)
    return Segmenter(encoder, LinearDecoder(48, 5)).train()


def test_timm_draws_nowhere() -> None:
    modules = list(model().modules())
    assert not any(isinstance(one, DropPath) for one in modules)
    rates = [one.drop_prob for one in modules if isinstance(one, StochasticDepth)]
    assert rates == pytest.approx([rate for rate in (1 / 6, 1 / 3, 1 / 2) for _ in range(2)])  # 0 in the first block
    decoder = MaskDecoder(48, 5, num_heads=3, drop_path_rate=0.4)
    assert [one.drop_prob for one in decoder.modules() if isinstance(one, StochasticDepth)] == pytest.approx([0.4, 0.4])


def test_paths_that_stay_are_made_up_for() -> None:
    depth = StochasticDepth(0.25).train()
    x = torch.ones(4, 3, 2)
    depth.kept = torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert torch.equal(depth(x)[:, 0, 0], torch.tensor([4 / 3, 0, 4 / 3, 4 / 3]))
    assert torch.equal(depth.eval()(x), x)
    depth.kept = None
    torch.manual_seed(0)
    drawn = depth.train()(torch.ones(20_000, 1))
    assert drawn.mean() == pytest.approx(1, abs=0.02)
    assert (drawn == 0).double().mean() == pytest.approx(0.25, abs=0.015)


def test_a_picture_draws_the_same_on_any_device() -> None:
    whole, parts = DepthDraws(model()), DepthDraws(model())
    whole.draw(7, 3, range(8), torch.device("cpu"))
    expected = whole.kept.clone()
    for first, last in ((0, 4), (4, 8), (2, 3)):
        parts.draw(7, 3, range(first, last), torch.device("cpu"))
        assert torch.equal(parts.kept, expected[:, first:last])
    for seed, step in ((8, 3), (7, 4)):
        whole.draw(seed, step, range(8), torch.device("cpu"))
        assert not torch.equal(whole.kept, expected)


def test_draws_have_their_rates() -> None:
    draws = DepthDraws(model())
    kept = []
    for step in range(200):
        draws.draw(0, step, range(20), torch.device("cpu"))
        kept.append(draws.kept.clone())
    found = 1 - torch.cat(kept, 1).mean(1)
    assert found.tolist() == pytest.approx(draws.rates.tolist(), abs=0.03)
    pairs = torch.corrcoef(torch.cat(kept, 1))
    assert (pairs - torch.eye(len(pairs))).abs().max() < 0.08  # 4000 draws: five deviations


def test_gradients_of_parts_add_up_to_those_of_the_whole() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    segmenter = model().double()
    draws = DepthDraws(segmenter)

    def gradient(*parts: tuple[int, int]) -> torch.Tensor:
        segmenter.zero_grad()
        for first, last in parts:
            draws.draw(0, 0, range(first, last), torch.device("cpu"))
            segmenter.coarse_logits(images[first:last]).pow(2).sum().backward()
        return segmenter.encoder.vit.blocks[0].attn.qkv.weight.grad.clone()

    torch.testing.assert_close(gradient((0, 2), (2, 4)), gradient((0, 4)), rtol=1e-12, atol=1e-12)


def test_new_draws_compile_nothing_again() -> None:
    torch.compiler.reset()
    counter = CompileCounter()
    module = torch.nn.Sequential(StochasticDepth(0.5), StochasticDepth(0.2)).train()
    draws, x = DepthDraws(module), torch.ones(3, 2, 2)
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    for step in range(4):
        draws.draw(0, step, range(3), torch.device("cpu"))
        expected = x * (draws.kept[0] / 0.5 * draws.kept[1] / 0.8)[:, None, None]
        torch.testing.assert_close(compiled(x), expected)
    assert counter.frame_count == 1


def test_at_the_end_the_generator_draws_again() -> None:
    draws = DepthDraws(model())
    draws.draw(0, 0, range(2), torch.device("cpu"))
    draws.end()
    assert all(one.kept is None for one in draws.modules)
