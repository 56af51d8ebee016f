"""Time and memory of a training step over resolution and classes: `python benchmarks/scaling.py`. Prints two tables.

Seg-T/16 with a mask decoder, batch 1, float32, one thread, tuned malloc: 150 classes at 256 to 1024 pixels, and 512
pixels at 19 to 1000 classes; a step as in training.py, plain and ours. Memory is what the step adds to the peak of a
fresh process, beside it what the loss alone adds: upsampling, cross-entropy and its backward pass.
"""

import json
import resource
import sys
from collections.abc import Callable

from side_by_side import alternated, child

SIDES, CLASSES = (256, 384, 512, 768, 1024), (19, 60, 150, 1000)


def functions(side: int, classes: int, part: str) -> dict[str, Callable[[], None]]:
    """The `step` or the `loss` alone, plain and ours."""
    import torch
    import torch.nn.functional as F
    from plain import PlainSegmenter
    from torch import Tensor

    from segmenter_pl import create_segmenter
    from segmenter_pl.ops import upsampled_cross_entropy

    torch.manual_seed(0)
    images = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    target = torch.randint(0, classes, (1, side, side), dtype=torch.uint8 if classes < 256 else torch.int16)
    ours = create_segmenter("vit_t16", "mask", num_classes=classes, image_size=side)
    logits = torch.randn(1, classes, side // 16, side // 16, requires_grad=True)

    def usual(coarse: Tensor) -> None:
        full = F.interpolate(coarse, size=(side, side), mode="bilinear")
        F.cross_entropy(full, target.long(), ignore_index=255 if classes < 256 else -1).backward()

    def banded(coarse: Tensor) -> None:
        upsampled_cross_entropy(coarse, target, 16, ignore_index=255 if classes < 256 else -1).backward()

    plain = PlainSegmenter(ours)
    if part == "loss":
        return {"plain": lambda: usual(logits), "ours": lambda: banded(logits)}
    return {"plain": lambda: usual(plain.coarse_logits(images)), "ours": lambda: banded(ours.coarse_logits(images))}


def measure(side: int, classes: int, part: str, only: str) -> None:
    made = functions(side, classes, part)
    if not only:
        print(json.dumps(alternated(made, 3)))
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made[only]()
    print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def main() -> None:
    for title, cases in (
        ("pixels, K = 150", [(side, 150) for side in SIDES]),
        ("K, 512 pixels", [(512, classes) for classes in CLASSES]),
    ):
        print(f"\n| {title} | plain, s | ours, s | plain, MB | ours, MB | loss, plain, MB | loss, ours, MB |")
        print("|---|---|---|---|---|---|---|")
        for side, classes in cases:
            plain, ours = child(__file__, side, classes, "step", "", malloc="tuned").values()
            memory = [
                child(__file__, side, classes, part, name) for part in ("step", "loss") for name in ("plain", "ours")
            ]
            row = f"| {side if 'pixels,' in title else classes} | {plain:.2f} | {ours:.2f} | "
            print(row + " | ".join(f"{one:.0f}" for one in memory) + " |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 4:
        measure(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        main()
