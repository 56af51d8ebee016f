"""Table and curves of the CamVid runs below a folder: `python docs/camvid_report.py runs`.

Writes docs/figures/camvid_curves.png and prints a Markdown table (last weights, mean over the seeds that are there).
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAMES = {
    "camvid_seg_t16_linear": "linear, SGD",
    "camvid_seg_t16_mask": "mask, SGD (paper)",
    "camvid_seg_t16_mask_adamw": "mask, AdamW",
}


def main(root: Path) -> None:
    """Read every finished run of the CamVid experiments below `root`."""
    runs: dict[str, list[Path]] = defaultdict(list)
    for results in sorted(root.glob("camvid_*/*/seed-*/results.json")):
        runs[json.loads(results.read_text())["config"]["name"]].append(results.parent)
    print(table(runs))
    target = Path(__file__).parent / "figures" / "camvid_curves.png"
    curves(runs, target)
    print(f"Curves: {target}")


def table(runs: dict[str, list[Path]]) -> str:
    """One column per experiment: mIoU, accuracies and every class."""
    columns = [name for name in NAMES if name in runs]
    results = {name: [json.loads((run / "results.json").read_text())["val"] for run in runs[name]] for name in columns}
    classes = list(results[columns[0]][0]["classes"])
    lines = [
        "| val, last weights | " + " | ".join(NAMES[name] for name in columns) + " |",
        "|---|" + "---|" * len(columns),
        row("seeds", [str(len(results[name])) for name in columns]),
        row("**mIoU**", [f"**{mean(r['miou'] for r in results[name]):.4f}**" for name in columns]),
        row("by seed", [", ".join(f"{r['miou']:.4f}" for r in results[name]) for name in columns]),
        row("pixel accuracy", [f"{mean(r['pixel_accuracy'] for r in results[name]):.4f}" for name in columns]),
        row("mean accuracy", [f"{mean(r['mean_accuracy'] for r in results[name]):.4f}" for name in columns]),
        *(
            row(label, [f"{mean(r['classes'][label] for r in results[name]):.3f}" for name in columns])
            for label in classes
        ),
    ]
    return "\n".join(lines)


def row(label: str, cells: list[str]) -> str:
    return f"| {label} | " + " | ".join(cells) + " |"


def curves(runs: dict[str, list[Path]], target: Path) -> None:
    """Training loss and val mIoU over steps; thin lines are seeds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for color, (name, label) in zip(("tab:green", "tab:blue", "tab:orange"), NAMES.items(), strict=True):
        for number, run in enumerate(runs.get(name, [])):
            with (run / "metrics.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            for axes, key in ((left, "train/loss"), (right, "val/miou")):
                points = [(int(r["step"]) + 1, float(r[key])) for r in rows if r[key]]
                axes.plot(*zip(*points, strict=True), color=color, lw=1, marker="." if axes is right else None,
                          label=label if number == 0 else None)  # fmt: skip
    left.set(xlabel="step", ylabel="training loss", yscale="log")
    right.set(xlabel="step", ylabel="val mIoU", ylim=(0, None))
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=120)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
