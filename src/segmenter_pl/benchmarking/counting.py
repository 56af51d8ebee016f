"""Parameters and floating-point operations of a model, counted on tensors without data."""

from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from segmenter_pl import build

# What changes how a model is executed, not what it computes; recomputing activations is no work of the model.
PLAIN = {"compile": False, "backbone.checkpointing": False, "backbone.pretrained": False, "backbone.weights": None}


class Counts(NamedTuple):
    """Of one picture; operations in units of 10^9, two for each multiplication with its addition.

    Attributes:
        parameters: all of the model. inference_gflops: pixels to coarse logits. training_gflops: that, and the gradient
            of every trainable parameter.
    """

    parameters: int
    inference_gflops: float
    training_gflops: float


def count(config: DictConfig, num_classes: int) -> Counts:
    """Counts of the configured model for one picture of `dataset.crop` pixels a side.

    Matrix products and convolutions only, as torch's counter does; upsampling, loss and optimizer are left out.

    Raises: ValueError where the model cannot be built.
    """
    config = config.copy()
    for key, value in PLAIN.items():
        if OmegaConf.select(config, key) is not None:
            OmegaConf.update(config, key, value)
    with torch.device("meta"):  # shapes without numbers: nothing is computed, however large the model
        model = build.build_model(config, num_classes)
        pictures = torch.empty(2, 3, config.dataset.crop, config.dataset.crop, dtype=torch.uint8)  # BatchNorm wants two
    with torch.no_grad():
        inference = _gflops(lambda: model.eval().coarse_logits(pictures)) / 2
    training = _gflops(lambda: model.train().coarse_logits(pictures).sum().backward()) / 2
    return Counts(sum(p.numel() for p in model.parameters()), inference, training)


def _gflops(run: Any) -> float:
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() / 1e9
