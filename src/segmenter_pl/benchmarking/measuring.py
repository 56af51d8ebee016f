"""Seconds and memory of inference and of training steps, measured where this runs: see `processes` for where."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from segmenter_pl import build, report
from segmenter_pl.benchmarking.timing import timed
from segmenter_pl.data.classes import Classes
from segmenter_pl.data.datamodule import SegmentationDataModule
from segmenter_pl.data.dataset import SegmentationDataset
from segmenter_pl.factory import create_segmenter
from segmenter_pl.memory import peak_memory_gb
from segmenter_pl.ops import upsampled_cross_entropy
from segmenter_pl.ops.bands import View, banded_scores, mixing_matrix
from segmenter_pl.visualize import default_palette

INFERENCE, TRAINING = "inference", "training"
WARM_UP = {"cpu": 1}  # steps after the first one, which compiles and allocates; 3 elsewhere
BLOCK_SECONDS = 0.2  # of steps between two stops, on a device that works ahead
LONG_ENOUGH = 0.02  # seconds of a matrix product that shows what the device can do
Step = Callable[[], object]


@dataclass(frozen=True)
class Measurement:
    """Of one batch size.

    Attributes:
        milliseconds: median of single steps, each waited for. images_per_second: batch over the median time of a step
            among others; on a GPU steps are queued then, as a training does.
        first_step_seconds: of the first step, with compilation. samples: single steps that were timed.
        memory_gb: highest, with model and optimizer. GPU: allocated by torch during the timed steps; CPU: growth of the
            process's resident memory since before the model was built, so with the compiler, where one is used; None
            where the device does not tell.
    """

    milliseconds: float
    images_per_second: float
    first_step_seconds: float
    samples: int
    memory_gb: float | None


class NoPictures(SegmentationDataModule):
    """K classes without pictures: all that building a task needs of a dataset."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(batch_size=1, crop=1)
        names = tuple(f"class {k}" for k in range(num_classes))
        self.classes = Classes(names, default_palette(num_classes), 255 if num_classes <= 255 else 32767)

    def dataset(self, split: str) -> SegmentationDataset:
        raise NotImplementedError


class Bench:
    """The configured model on its device and in its precision, built by the code that trains it.

    Args:
        config: as of `train.py`, for one device. num_classes: K.

    Attributes:
        before_gb: highest resident memory of this process before there was a model.
    """

    def __init__(self, config: DictConfig, num_classes: int) -> None:
        report.quiet_lightning()
        trainer = build.build_evaluator(config, [])
        self.config, self.num_classes = config, num_classes
        self.plugin = trainer.precision_plugin
        self.device = trainer.strategy.root_device
        self.before_gb = 0.0
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # where kernels of ours are started

    @cached_property
    def model(self) -> Any:
        torch.manual_seed(0)
        return self.plugin.convert_module(build.build_model(self.config, self.num_classes).to(self.device))

    def load_libraries(self) -> None:
        """Run a tiny model, so that code which is read into the memory on first use does not count as the model's."""
        model = create_segmenter("vit_micro", num_classes=4, image_size=32)
        with self.plugin.forward_context():
            coarse = model.coarse_logits(torch.zeros(1, 3, 32, 32))
            loss = upsampled_cross_entropy(coarse, torch.zeros(1, 32, 32, dtype=torch.int64), model.stride)
        loss.backward()
        torch.optim.SGD(model.parameters(), fused=True).step()
        self.before_gb = peak_memory_gb()

    def measure(self, mode: str, batch: int, seconds: float) -> Measurement:
        """Time steps of `mode` for about so many seconds, at least three; RuntimeError or MemoryError if too large."""
        gc.collect()  # what the last batch size has left, such as its optimizer
        if self.config.compile:
            torch.compiler.reset()  # or a second batch size would get kernels for any size
        side, device, data = self.config.dataset.crop, self.device, NoPictures(self.num_classes)
        images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=device)
        labels = torch.from_numpy(np.zeros((batch, side, side), data.classes.mask_dtype)).to(device)
        labels.random_(self.num_classes)
        step = self._inference(images) if mode == INFERENCE else self._training(images, labels, data)
        start = time.perf_counter()
        step()
        self._wait()
        first = time.perf_counter() - start
        for _ in range(WARM_UP.get(device.type, 3)):
            step()
        self._wait()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        samples = timed(step, self._wait, seconds)
        pace = latency = median(samples)
        if device.type != "cpu":
            block = math.ceil(BLOCK_SECONDS / latency)
            pace = median(timed(lambda: [step() for _ in range(block)], self._wait, seconds)) / block
        return Measurement(1000 * latency, batch / pace, first, len(samples), self._memory_gb())

    def ceiling_tflops(self, seconds: float) -> float:
        """The best rate of square matrix products in the model's precision, 10^12 operations per second.

        Sides double until a product takes a fiftieth of a second.
        """
        best, side, longest = 0.0, 1024, 0.0
        while longest < LONG_ENOUGH and side <= 16384:
            weight = next(self.plugin.convert_module(nn.Linear(1, 1)).parameters())
            a, b = torch.randn(2, side, side, device=self.device).to(weight.dtype)
            with self.plugin.forward_context(), torch.inference_mode():
                narrow = (a[:1] @ b).dtype  # what autocast makes of it; cast here, so that only the product is timed
                a, b = a.to(narrow), b.to(narrow)
                timed(lambda x=a, y=b: x @ y, self._wait, 0.0)  # type: ignore[misc]
                longest = median(timed(lambda x=a, y=b: x @ y, self._wait, seconds))  # type: ignore[misc]
            best, side = max(best, 2 * side**3 / longest / 1e12), 2 * side
        return best

    def name(self) -> str:
        """Of the device: "cuda (NVIDIA H200)", "cpu, 2 threads"."""
        if self.device.type == "cuda":
            return f"cuda ({torch.cuda.get_device_name(self.device)})"
        threads = torch.get_num_threads()
        return f"{self.device.type}, {threads} thread{'s' * (threads > 1)}" if self.device.type == "cpu" else "mps"

    def _inference(self, images: Tensor) -> Step:
        """Pictures to class ids of every pixel."""
        self.model.eval()

        def step() -> Tensor:
            with torch.inference_mode():
                with self.plugin.forward_context():
                    coarse = self.model.coarse_logits(images)
                return _labels(coarse.float(), self.model.stride, images.shape[-2:])

        return step

    def _training(self, images: Tensor, labels: Tensor, data: NoPictures) -> Step:
        """Forward, loss, backward and optimizer; without what a training does around them (loader, logs, checks)."""
        self.model.train()
        task = build.build_task(self.config, self.model, data)
        assert task.make_optimizer is not None
        optimizer, scaler = task.make_optimizer(self.model), getattr(self.plugin, "scaler", None)
        sample = {"image": images, "mask": labels}

        def step() -> None:
            with self.plugin.forward_context():
                loss = task.training_step(sample, 0)
            (loss if scaler is None else scaler.scale(loss)).backward()
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
            task.sums = 0.0

        return step

    def _wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def _memory_gb(self) -> float | None:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return peak_memory_gb() - self.before_gb if self.device.type == "cpu" else None


def _labels(coarse: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """Class ids (B, H, W) of windows with coarse logits (B, K, h, w), by the tiles that prediction is made of."""
    (height, width), cells = size, coarse.permute(0, 2, 3, 1).contiguous()  # (B, h, w, K)
    down, across = (mixing_matrix(side, side, (0,), side, stride) for side in (height, width))  # (H, h), (W, w)
    labels = coarse.new_empty(len(coarse), height, width, dtype=torch.int64)
    for logits, ids in zip(cells, labels, strict=True):
        for rows, columns, scores in banded_scores([View(logits, down, across)]):
            ids[rows, columns] = scores.argmax(-1)
    return labels
