"""Attention with dropout on a CPU: the numbers and draws of the plain product, of which less is kept."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor

from segmenter_pl.models.dropped_attention import DroppedAttention, DroppingBlock

HEADS, TOKENS = 3, 20


def plain(query: Tensor, key: Tensor, value: Tensor, rate: float) -> Tensor:
    weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
    return F.dropout(weights, rate) @ value


def projected(scale: float = 1.0) -> list[Tensor]:
    """Queries, keys and values of two pictures, laid out as a block has them."""
    generator = torch.Generator().manual_seed(0)
    qkv = scale * torch.randn(2, TOKENS, 3, HEADS, 8, dtype=torch.float64, generator=generator)
    return [one.requires_grad_() for one in qkv.permute(2, 0, 3, 1, 4).unbind(0)]


def kept(function: Callable[[], object]) -> int:
    """Numbers that are stored for the backward pass, counted once."""
    stored: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(stored.values())


@pytest.mark.parametrize("rate", [0.1, 0.9])
@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["usual", "saturated"])  # then most weights are 0
def test_output_and_gradients_are_those_of_the_plain_product(rate: float, scale: float) -> None:
    tensors = projected(scale)
    towards = torch.randn(2, HEADS, TOKENS, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for attend in (plain, DroppedAttention.apply):
        torch.manual_seed(2)
        mixed = attend(*tensors, rate)
        found.append([mixed, *torch.autograd.grad(mixed, tensors, towards)])
    for mine, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_differences() -> None:
    def attend(*tensors: Tensor) -> Tensor:
        torch.manual_seed(2)
        return DroppedAttention.apply(*tensors, 0.3)

    assert torch.autograd.gradcheck(attend, [one[:1, :2, :5] for one in projected()])


def test_one_matrix_a_head_is_kept() -> None:
    tensors = projected()
    matrices = 2 * HEADS * TOKENS**2
    inputs = 3 * 2 * HEADS * TOKENS * 8
    assert kept(lambda: DroppedAttention.apply(*tensors, 0.1)) <= matrices + inputs
    assert kept(lambda: plain(*tensors, 0.1)) >= 3 * matrices


def blocks(dropout: float) -> tuple[Block, DroppingBlock]:
    """timm's and ours, with the same weights."""
    made = [kind(24, HEADS, qkv_bias=True, attn_drop=dropout, proj_drop=0.2) for kind in (Block, DroppingBlock)]
    made[1].load_state_dict(made[0].state_dict())
    return made[0].double(), made[1].double()  # type: ignore[return-value]


@pytest.mark.parametrize("dropout", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_block_computes_what_timms_does(dropout: float, fused: bool, training: bool) -> None:
    x = torch.randn(2, TOKENS, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for block in blocks(dropout):
        block.train(training)
        block.attn.fused_attn = fused
        torch.manual_seed(2)
        out = block(x)
        out.square().sum().backward()
        found.append([out, *(one.grad for one in block.parameters())])
    for theirs, mine in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_where_nothing_is_dropped_nothing_is_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DroppedAttention, "apply", lambda *_: pytest.fail("own attention"))
    _, block = blocks(0.1)
    x = torch.randn(1, TOKENS, 24, dtype=torch.float64)
    block.eval()(x)
    block.train()
    block.attn.fused_attn = False  # what choose_attention does for bfloat16
    block(x)
    block.attn.fused_attn = True
    with pytest.raises(pytest.fail.Exception, match="own attention"):
        block(x)
