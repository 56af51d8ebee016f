"""A training step against the plain one: `python benchmarks/training.py [T S B]`. Prints a Markdown table.

Forward, loss, backward, optimizer of Seg-T, S and B with a mask decoder, patch 16, 512×512 pixels, 150 classes, random
weights, one thread. Plain: plain.py in float32 with full-size logits, F.cross_entropy and torch's default SGD. Ours:
float32 and bfloat16 autocast, the SGD of `optimizer=sgd`. CPU seconds, medians of alternating steps; memory is what
three steps add to the peak of a fresh process that has model and pictures.
"""

import json
import resource
import sys
from collections.abc import Callable

from side_by_side import MALLOCS, alternated, child

RUNS = {"t": 5, "s": 3, "b": 3}
VARIANTS = ("plain", "fp32", "bf16")


def steps(size: str, batch: int, only: str = "") -> dict[str, Callable[[], None]]:
    """One training step of each variant, on the same pictures; of one of them, if its name is given."""
    import torch
    from plain import PlainSegmenter
    from steps import training_step

    from segmenter_pl import create_segmenter

    torch.manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, 512, 512), dtype=torch.uint8)
    target = torch.randint(0, 150, (batch, 512, 512), dtype=torch.uint8)
    made = {}
    for name in [only] if only else VARIANTS:
        model = create_segmenter(f"vit_{size}16", "mask", num_classes=150, image_size=512)
        plain = name == "plain"
        model = PlainSegmenter(model) if plain else model
        made[name] = training_step(model, images, target, plain=plain, bf16=name == "bf16")
    return made


def measure(size: str, batch: int, only: str) -> None:
    """In a process of its own: seconds of all variants, or the memory of one in MB."""
    functions = steps(size, batch, only)
    if not only:
        print(json.dumps(alternated(functions, RUNS[size])))
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        functions[only]()
    print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def main(sizes: list[str]) -> None:
    columns = ("model", "batch", "malloc", *(f"{name}, s" for name in VARIANTS), "fp32 ×", "bf16 ×")
    print("|", " | ".join([*columns, *(f"{name}, MB" for name in VARIANTS)]), "|\n" + "|---" * 11 + "|")
    for size in sizes:
        for batch in (1, 2):
            for malloc in MALLOCS:
                plain, fp32, bf16 = child(__file__, size, batch, "", malloc=malloc).values()
                row = f"| {size.upper()} | {batch} | {malloc} | {plain:.2f} | {fp32:.2f} | {bf16:.2f} | "
                row += f"{plain / fp32:.2f} | {plain / bf16:.2f} | "
                memory = [child(__file__, size, batch, name, malloc=malloc) for name in VARIANTS]
                print(row + " | ".join(f"{one:.0f}" for one in memory) + " |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2].isdecimal():
        measure(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    else:
        main([word.lower() for word in sys.argv[1:]] or ["t", "s", "b"])
