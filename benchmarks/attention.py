"""Attention on this machine: `python benchmarks/attention.py`. Prints a Markdown table.

torch's fused kernel (SDPA) against the explicit product softmax(q·kᵀ)·v as timm writes it, of one block's heads,
forward and forward + backward, float32 and bfloat16 autocast, one thread. CPU milliseconds, medians of alternating
runs. `models/attention.py` follows from it.
"""

import torch
import torch.nn.functional as F
from side_by_side import alternated
from torch import Tensor

CASES = {
    "T, 1 × 1025": (1, 3, 1025),
    "S, 1 × 1025": (1, 6, 1025),
    "B, 2 × 1025": (2, 12, 1025),
    "T, 8 × 257": (8, 3, 257),
}


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


def main() -> None:
    torch.set_num_threads(1)
    print(
        "| heads × tokens | precision | pass | fused, ms | explicit, ms | fused / explicit |\n|---|---|---|---|---|---|"
    )
    for name, (batch, heads, tokens) in CASES.items():
        for dtype in (torch.float32, torch.bfloat16):
            for backward in (False, True):
                torch.manual_seed(0)
                inputs = [torch.randn(batch, heads, tokens, 64, dtype=dtype, requires_grad=backward) for _ in range(3)]

                def run(attention, inputs=inputs, backward=backward, bf16=dtype == torch.bfloat16) -> None:
                    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                        out = attention(*inputs)
                    if backward:
                        out.backward(torch.ones_like(out))

                took = alternated({"fused": lambda: run(fused), "explicit": lambda: run(explicit)}, 7)
                one, two = 1000 * took["fused"], 1000 * took["explicit"]
                precision, passes = str(dtype).removeprefix("torch."), "both" if backward else "forward"
                print(f"| {name} | {precision} | {passes} | {one:.1f} | {two:.1f} | {one / two:.2f} |", flush=True)


if __name__ == "__main__":
    main()
