"""A training step as the benchmarks compare it: plain with torch's default SGD, or ours with the fused one."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from segmenter_pl.ops import upsampled_cross_entropy


def training_step(
    model: torch.nn.Module, images: torch.Tensor, target: torch.Tensor, *, plain: bool, bf16: bool
) -> Callable[[], None]:
    """Forward, loss, backward and optimizer, on the same pictures each time; plain: with full-size logits."""
    rates = {"lr": 1e-3, "momentum": 0.9, "nesterov": True}
    optimizer = torch.optim.SGD(model.parameters(), **rates, **({} if plain else {"fused": True}))

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            if plain:
                loss = F.cross_entropy(model(images), target.long(), ignore_index=255)
            else:
                loss = upsampled_cross_entropy(model.coarse_logits(images), target, model.stride)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model.train()
    return step
