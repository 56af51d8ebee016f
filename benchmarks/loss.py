"""Band-wise loss against F.interpolate + F.cross_entropy: `python benchmarks/loss.py`. Prints one Markdown table.

Forward and backward, batch 4, 32×32 → 512×512, one thread; process CPU time, medians of alternating runs; memory is the
growth of the peak of a fresh process. Every row is measured with glibc's default malloc and with one that keeps large
blocks, because page faults flatter the lean code.
"""

import json
import resource
import sys
from collections.abc import Callable

from side_by_side import MALLOCS, alternated, child

RUNS = 5


def losses(classes: int) -> dict[str, Callable[[], None]]:
    """Both losses on the same random logits, each with its backward pass."""
    import torch
    import torch.nn.functional as F

    from segmenter_pl.ops import upsampled_cross_entropy

    torch.manual_seed(0)
    coarse = torch.randn(4, classes, 32, 32, requires_grad=True)
    target = torch.randint(0, classes, (4, 512, 512), dtype=torch.uint8)

    def plain() -> None:
        full = F.interpolate(coarse, size=(512, 512), mode="bilinear", align_corners=False)
        F.cross_entropy(full, target.long(), ignore_index=255).backward()

    def banded() -> None:
        upsampled_cross_entropy(coarse, target, 16).backward()

    return {"plain": plain, "banded": banded}


def measure(classes: int, only: str) -> None:
    """In a process of its own: seconds of both, or the memory of one; printed as JSON."""
    functions = losses(classes)
    if only:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        functions[only]()
        print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))
        return
    print(json.dumps(alternated(functions, RUNS)))


def main() -> None:
    print("| K | malloc | plain, ms | band by band, ms | ratio | plain, MiB | band by band, MiB |")
    print("|---|---|---|---|---|---|---|")
    for classes in (150, 59, 19):
        memory = {name: child(__file__, classes, name) for name in ("plain", "banded")}
        for malloc in MALLOCS:
            ms = {name: 1000 * value for name, value in child(__file__, classes, "", malloc=malloc).items()}
            print(
                f"| {classes} | {malloc} | {ms['plain']:.0f} | {ms['banded']:.0f} | {ms['plain'] / ms['banded']:.1f} | "
                f"{memory['plain']:.0f} | {memory['banded']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]), sys.argv[2])
    else:
        main()
