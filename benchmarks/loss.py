"""Band-wise loss against F.interpolate + F.cross_entropy: `python benchmarks/loss.py`. Prints one Markdown table.

Forward and backward, batch 4, 32×32 → 512×512, one thread; process CPU time, medians of alternating runs; memory is the
growth of the peak of a fresh process. Every row is measured with glibc's default malloc and with one that keeps large
blocks, because page faults flatter the lean code.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
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
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for run in range(RUNS + 1):
        for name, function in functions.items():
            start = time.process_time()
            function()
            if run:  # the first is a warm-up
                seconds[name].append(time.process_time() - start)
    print(json.dumps({name: median(values) for name, values in seconds.items()}))


def child(classes: int, only: str = "", **environment: str) -> dict[str, float]:
    command = [sys.executable, __file__, str(classes), only]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return json.loads(subprocess.run(command, env=settings, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    print("| K | malloc | plain, ms | band by band, ms | ratio | plain, MiB | band by band, MiB |")
    print("|---|---|---|---|---|---|---|")
    for classes in (150, 59, 19):
        memory = {name: child(classes, name) for name in ("plain", "banded")}
        for malloc, environment in (("default", {}), ("tuned", TUNED)):
            ms = {name: 1000 * value for name, value in child(classes, **environment).items()}
            print(
                f"| {classes} | {malloc} | {ms['plain']:.0f} | {ms['banded']:.0f} | {ms['plain'] / ms['banded']:.1f} | "
                f"{memory['plain']:.0f} | {memory['banded']:.0f} |"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]), sys.argv[2])
    else:
        main()
