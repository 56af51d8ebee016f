"""Attention with dropout on a CPU, for whose backward pass little is kept.

torch's fused kernels have no dropout on a CPU. It computes step by step there and keeps three matrices for each head:
the weights, the weights after dropout, and what they were multiplied by. Here it is one, and no time is lost.

Shapes: B batch, A heads, N tokens, C channels of a head, D = A·C.
"""

from itertools import product
from typing import Any

import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor
from torch.autograd.function import Function, once_differentiable


class DroppedAttention(Function):
    """dropout(softmax(q·kᵀ / √C))·v, of queries, keys and values (B, A, N, C) and the rate of dropout, below 1.

    It draws what `F.dropout` draws for weights (B, A, N, N). The weights are kept, those that were dropped with a minus
    before them. (A weight that is 0 cannot tell, but no gradient passes through it, dropped or not.)
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, rate: float) -> Tensor:
        """Mixed values (B, A, N, C)."""
        length, channels = query.shape[-2:]
        signed = query.new_empty(*query.shape[:2], length, length).bernoulli_(1 - rate)
        mixed = torch.empty_like(value)
        for at in product(*map(range, query.shape[:2])):  # head by head, which stays in the cache
            weights = (query[at] * channels**-0.5 @ key[at].T).softmax(-1)  # (N, N)
            mixed[at] = (weights * signed[at]).div_(1 - rate) @ value[at]
            signed[at].mul_(2).sub_(1).mul_(weights)
        ctx.save_for_backward(query, key, value, signed)
        ctx.rate = rate
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Of the mixed values (B, A, N, C)."""
        query, key, value, signed = ctx.saved_tensors
        to_query, to_key, to_value = (torch.empty_like(one) for one in (query, key, value))
        for at in product(*map(range, query.shape[:2])):
            dropped = signed[at].clamp(min=0).div_(1 - ctx.rate)  # (N, N)
            to_value[at] = dropped.T @ gradient[at]
            to_scores = (gradient[at] @ value[at].T).mul_(dropped)  # weight · its gradient
            to_scores.addcmul_(signed[at].abs(), to_scores.sum(-1, keepdim=True), value=-1)
            to_scores.mul_(query.shape[-1] ** -0.5)
            to_query[at] = to_scores @ key[at]
            to_key[at] = to_scores.T @ query[at]
        return to_query, to_key, to_value, None


class DroppingBlock(Block):
    """timm's block, without layer scale and norms of queries, with `DroppedAttention` where it serves."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override] # decoders have no masks
        """Tokens (B, N, D) to the same shape."""
        attention: Any = self.attn
        by_steps = attention.fused_attn and x.device.type == "cpu" and not torch.compiler.is_compiling()
        if not (self.training and by_steps and 0 < attention.attn_drop.p < 1):
            return super().forward(x)
        x = x + self.drop_path1(_attended(attention, self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


def _attended(attention: Attention, x: Tensor) -> Tensor:
    query, key, value = attention.qkv(x).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = DroppedAttention.apply(query, key, value, attention.attn_drop.p)  # (B, A, N, C)
    return attention.proj_drop(attention.proj(mixed.transpose(1, 2).flatten(2)))  # (B, N, D)
