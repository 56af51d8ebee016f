"""Other ways to execute the same model: `python benchmarks/execution.py [T S …]`. Prints a Markdown table.

Seg-T/16 and S with a mask decoder, 512×512, 150 classes, batch 2, bfloat16 autocast: encoder and decoder as they are;
with `channels_last` pictures and weights; compiled (`compile=true`); and, on a GPU, compiled with CUDA graphs. Coarse
logits of a forward pass, and forward, loss and backward of a training step. On a CPU one thread and CPU time, on a GPU
time until the device is done; medians of alternating runs in milliseconds, and the largest difference of a logit.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import alternated

from segmenter_pl import create_segmenter
from segmenter_pl.ops import upsampled_cross_entropy

BATCH, SIDE, CLASSES, RUNS = 2, 512, 150, 5


def variants(size: str, device: torch.device) -> dict[str, Any]:
    """The same weights, ready to be executed in each way."""
    made = {}
    for name in ["as it is", "channels_last", "compiled", *(["CUDA graphs"] if device.type == "cuda" else [])]:
        torch.manual_seed(0)
        model = create_segmenter(f"vit_{size}16", "mask", num_classes=CLASSES, image_size=SIDE).to(device)
        if name == "channels_last":
            model = model.to(memory_format=torch.channels_last)
        elif name != "as it is":
            for part in model.children():
                part.compile(mode="reduce-overhead" if name == "CUDA graphs" else None)
        made[name] = model
    return made


def measured(size: str, device: torch.device, training: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of each way, and how far its logits are from those of the first."""
    images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8, device=device)
    target = torch.randint(0, CLASSES, (BATCH, SIDE, SIDE), dtype=torch.uint8, device=device)
    functions: dict[str, Callable[[], object]] = {}
    logits = {}
    for name, model in variants(size, device).items():
        seen = images.to(memory_format=torch.channels_last) if name == "channels_last" else images
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            logits[name] = model.eval().coarse_logits(seen).float().clone()
        model.train(training)

        def run(model: Any = model, seen: torch.Tensor = seen) -> None:
            with torch.set_grad_enabled(training), torch.autocast(device.type, torch.bfloat16):
                coarse = model.coarse_logits(seen)
                loss = upsampled_cross_entropy(coarse, target, model.stride) if training else coarse
            if training:
                loss.backward()
                model.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()

        functions[name] = run
    taken = alternated(functions, RUNS, time.perf_counter if device.type == "cuda" else time.process_time)
    first = logits["as it is"]
    return (
        {name: 1000 * seconds for name, seconds in taken.items()},
        {name: float((one - first).abs().max()) for name, one in logits.items()},
    )


def main(sizes: list[str]) -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print("| model | pass | way | ms | against as it is | logits differ by |\n|---|---|---|---|---|---|")
    for size in sizes:
        for training in (False, True):
            taken, apart = measured(size, device, training)
            for name, ms in taken.items():
                step = "training step" if training else "forward"
                ratio = taken["as it is"] / ms
                print(
                    f"| {size.upper()} | {step} | {name} | {ms:.0f} | {ratio:.2f} × | {apart[name]:.1e} |", flush=True
                )


if __name__ == "__main__":
    main([word.lower() for word in sys.argv[1:]] or ["t", "s"])
