"""What bfloat16 changes for a trained model: `python benchmarks/precision.py CKPT …`. Prints a Markdown table.

The whole evaluation of a training checkpoint on its own validation pictures, single scale and six scales with mirrors,
in float32 and under bfloat16 autocast: mIoU of both, and how many pixels get the same label.
"""

import sys
from pathlib import Path

import torch
from evaluating import agreement, evaluated


def main(checkpoints: list[str]) -> None:
    torch.set_num_threads(1)
    columns = ("model", "view", "mIoU, float32", "mIoU, bfloat16", "difference, points", "same label, %")
    print("|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|")
    for checkpoint in checkpoints:
        name = " ".join(Path(checkpoint).parts[-5:-2])
        for tta in ("none", "multiscale_flip"):
            exact, usual = evaluated(checkpoint, tta=tta)
            narrow, labels = evaluated(checkpoint, tta=tta, precision="bf16-mixed")
            row = f"{exact:.4f} | {narrow:.4f} | {100 * (narrow - exact):+.2f} | {agreement(labels, usual):.2f}"
            print(f"| {name} | {tta} | {row} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
