"""Parameter groups and learning-rate schedules."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

BLOCK = re.compile(r"encoder\.vit\.blocks\.(\d+)\.")
TOKENS = ("pos_embed", "cls_token", "dist_token", "reg_token", "cls_emb")
BEFORE_BLOCKS = tuple(f"encoder.vit.{part}" for part in ("patch_embed", "norm_pre", *TOKENS[:4]))


def parameter_groups(
    model: nn.Module, *, lr: float, weight_decay: float, decoder_lr_scale: float = 1.0, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Split trainable parameters by weight decay, by part of the model and, under layer-wise decay, by depth.

    Not decayed, as in the official code: vectors (biases, norms, scales), learned tokens and position tables.

    Args:
        model: its trainable parameters are grouped; names under `decoder.` form the decoder.
        lr: base rate.
        weight_decay: of the decayed group.
        decoder_lr_scale: rate of the decoder relative to `lr`.
        layer_decay: factor from one block of the encoder to the one before it; the last block has `lr`, what comes
            before the first block counts as one more. Source: BEiT (Bao et al., ICLR 2022), after ELECTRA.

    Returns:
        Groups with keys params, lr, lr_scale (its part of the base rate), weight_decay and name, empty ones left out.
    Raises:
        ValueError: `layer_decay` outside 0…1, 0 left out.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay}: give a number above 0 and up to 1 (1: the same rate everywhere)")
    depth = len({met[1] for name, _ in model.named_parameters() if (met := BLOCK.match(name))})
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_decoder = name.startswith("decoder.")
        is_token = name.endswith(TOKENS)
        decays = weight_decay == 0 or (parameter.ndim > 1 and not is_token)
        below = 0 if layer_decay == 1 else _blocks_above(name, depth)
        part = "decoder" if in_decoder else f"encoder_{depth - below}" if below else "encoder"
        key = f"{part}{'' if decays else '_no_decay'}"
        scale = decoder_lr_scale if in_decoder else layer_decay**below
        group = groups.setdefault(
            key,
            {
                "name": key,
                "params": [],
                "lr": lr * scale,
                "lr_scale": scale,
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _blocks_above(name: str, depth: int) -> int:
    """How many factors of layer-wise decay a parameter gets: 0 in the last block and behind it, in the decoder too."""
    if met := BLOCK.match(name):
        return depth - 1 - int(met[1])
    return depth if name.startswith(BEFORE_BLOCKS) else 0


def polynomial(
    optimizer: Optimizer, total_steps: int, *, power: float = 0.9, floor: float = 1e-5, warmup_steps: int = 0
) -> LambdaLR:
    """Polynomial decay: (γ − floor)·(1 − t/T)^power + floor at step t of T (paper §4.1; the floor: official code)."""
    return _schedule(optimizer, total_steps, warmup_steps, floor, lambda progress: (1 - progress) ** power)


def cosine(optimizer: Optimizer, total_steps: int, *, floor: float = 0.0, warmup_steps: int = 0) -> LambdaLR:
    """Half a cosine from the base rate down to `floor`, after a linear warm-up."""
    return _schedule(
        optimizer, total_steps, warmup_steps, floor, lambda progress: 0.5 * (1 + math.cos(math.pi * progress))
    )


def _schedule(
    optimizer: Optimizer, total_steps: int, warmup_steps: int, floor: float, decay: Callable[[float], float]
) -> LambdaLR:
    """Linear warm-up to the decay's own value at its end, then `decay` of t/T from the base rate down to `floor`.

    A group's `lr_scale` multiplies all of that, the floor too: groups keep their ratio to the end.
    """
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise ValueError(
            f"schedule.warmup_steps={warmup_steps} must lie below trainer.max_steps={total_steps}: "
            "lower schedule.warmup_steps or train longer"
        )

    def factor(step: int, lr: float, end: float) -> float:
        def rate(t: int) -> float:
            return (lr - end) * decay(min(t / total_steps, 1.0)) + end

        if lr == 0:  # a part that decoder_lr_scale=0 holds still
            return 1.0
        if step < warmup_steps:
            return rate(warmup_steps) * (step + 1) / (warmup_steps + 1) / lr
        return rate(step) / lr

    groups = optimizer.param_groups
    return LambdaLR(optimizer, [partial(factor, lr=g["lr"], end=floor * g.get("lr_scale", 1.0)) for g in groups])
