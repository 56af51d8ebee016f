"""Training and prediction on a GPU against the plain implementation: `python benchmarks/gpu.py`. Prints two tables.

Seg-T, S and B/16 at 512 pixels and L/16 at 640, mask decoder, 150 classes, random weights, pictures on the device.
Plain: plain.py with full-size logits and torch's default SGD, float32, float32 with TF32 products, and bfloat16
autocast. Ours: bfloat16, as it is and with `compile=true`. Training: forward, loss, backward, optimizer. Prediction:
pictures to labels. Each at the batch sizes named, until one does not fit: the best rate, and the memory that torch
allocated for one picture and for the best batch. MFU: the model's operations (2 for a multiplication with its addition,
as torch counts them) as a part of what plain matrix products reach in bfloat16. Variants take turns; medians.
`python benchmarks/gpu.py cpu` tries the script with a small model on a CPU.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from plain import PlainSegmenter
from steps import training_step
from torch.utils.flop_counter import FlopCounterMode

from segmenter_pl import create_segmenter
from segmenter_pl.ops.bands import View, banded_labels, mixing_matrix

CASES = (("vit_t16", 512), ("vit_s16", 512), ("vit_b16", 512), ("vit_l16", 640))
BATCHES, CLASSES, ROUNDS, STEPS = (1, 8, 32, 128), 150, 5, 10
WAYS = ("plain fp32", "plain TF32", "plain bf16", "ours bf16", "ours bf16 compiled")
Step = Callable[[], object]


def made(way: str, backbone: str, side: int, device: torch.device) -> torch.nn.Module:
    """The model of one way."""
    torch.manual_seed(0)
    model = create_segmenter(backbone, "mask", num_classes=CLASSES, image_size=side)
    if way.startswith("plain"):
        return PlainSegmenter(model).to(device)
    if way.endswith("compiled"):
        for part in model.children():
            part.compile()
    return model.to(device)


def training(way: str, model: torch.nn.Module, images: torch.Tensor, target: torch.Tensor) -> Step:
    """One step on the same pictures."""
    return training_step(model, images, target, plain=way.startswith("plain"), bf16="bf16" in way)


def prediction(way: str, model: torch.nn.Module, images: torch.Tensor, target: torch.Tensor) -> Step:
    """Labels of every pixel."""
    side, kind = images.shape[-1], images.device.type
    weights = mixing_matrix(side, side, (0,), side, model.stride)

    @torch.inference_mode()
    def step() -> None:
        with torch.autocast(kind, torch.bfloat16, enabled="bf16" in way):
            if way.startswith("plain"):
                model(images).argmax(1)
                return
            coarse = model.coarse_logits(images)
        for cells in coarse.float().permute(0, 2, 3, 1).contiguous():
            list(banded_labels([View(cells, weights, weights)]))

    model.eval()
    return step


def seconds(step: Step, device: torch.device) -> float:
    """Of one of several queued steps."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / STEPS


def rates(
    make: Callable[..., Step], backbone: str, side: int, device: torch.device
) -> dict[str, dict[int, list[float]]]:
    """Pictures per second and gigabytes of each way at each batch size that fits."""
    found: dict[str, dict[int, list[float]]] = {way: {} for way in WAYS}
    for batch in BATCHES:
        images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=device)
        target = torch.randint(0, CLASSES, (batch, side, side), dtype=torch.uint8, device=device)
        steps: dict[str, Step] = {}
        memory: dict[str, float] = {}
        for way in WAYS:
            before = reset_memory(device)
            try:
                step = make(way, made(way, backbone, side, device), images, target)
                in_way(way, step, device)  # compiles, and says whether it fits
                in_way(way, step, device)
                steps[way], memory[way] = step, peak_memory(device) - before
            except torch.OutOfMemoryError:
                step = None
        taken = [{way: in_way(way, step, device) for way, step in steps.items()} for _ in range(ROUNDS)]
        for way in steps:
            found[way][batch] = [batch / median(round[way] for round in taken), memory[way]]
    return found


def in_way(way: str, step: Step, device: torch.device) -> float:
    """Seconds of a step with the products of its way."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = way == "plain TF32"
    return seconds(step, device)


def reset_memory(device: torch.device) -> float:
    """Gigabytes that others hold; the peak counts from now on."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 1e9


def peak_memory(device: torch.device) -> float:
    """Gigabytes at most."""
    return torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0


def ceiling(device: torch.device) -> float:
    """Operations per second of a large matrix product in bfloat16."""
    side = 8192 if device.type == "cuda" else 512
    a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / min(seconds(lambda: a @ b, device) for _ in range(ROUNDS))


def operations(backbone: str, side: int, is_training: bool) -> float:
    """Of one picture, counted without data."""
    with torch.device("meta"):
        model = create_segmenter(backbone, "mask", num_classes=CLASSES, image_size=side)
        picture = torch.empty(1, 3, side, side, dtype=torch.uint8)
        with FlopCounterMode(display=False) as counter:
            coarse = model.coarse_logits(picture)
            if is_training:
                coarse.sum().backward()
    return counter.get_total_flops()


def main(device: torch.device) -> None:
    peak = ceiling(device)
    print(f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}, {peak / 1e12:.1f} TFLOPS in bf16")
    for title, make in (("training", training), ("prediction", prediction)):
        print(f"\n| {title} | way | images/s | batch | against plain fp32 | MFU | GB at 1 | GB |\n" + "|---" * 8 + "|")
        for backbone, side in CASES:
            found = rates(make, backbone, side, device)
            flops = operations(backbone, side, title == "training")
            best = {way: max(sizes.items(), key=lambda one: one[1][0]) for way, sizes in found.items() if sizes}
            for way, (batch, (rate, memory)) in best.items():
                ratio = f"{rate / best['plain fp32'][1][0]:.2f} ×" if "plain fp32" in best else "–"
                row = f"{rate:.1f} | {batch} | {ratio} | {rate * flops / peak:.0%} | {found[way][1][1]:.2f}"
                print(f"| {backbone} {side} | {way} | {row} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["cpu"]:
        CASES, BATCHES, ROUNDS, STEPS = (("vit_t16", 64),), (1,), 1, 1
        main(torch.device("cpu"))
    elif torch.cuda.is_available():
        main(torch.device("cuda"))
    else:
        raise SystemExit("there is no GPU here; `python benchmarks/gpu.py cpu` tries the script")
