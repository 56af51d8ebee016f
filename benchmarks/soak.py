"""Does memory grow? `python benchmarks/soak.py [--pictures 10000]`. Prints a Markdown table.

Draws so many JPEGs of 64 to 256 pixels a side with label PNGs, trains on all of them once and evaluates them, each with
two processes and a loader process each, and adds up the memory that the processes hold (proportional set size) while
they work. Exits with 1 if it grows by more than a tenth between the first hundred pictures and the last one.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
SMALL = ("backbone.embed_dim=32", "backbone.depth=1", "backbone.num_heads=1", "backbone.patch_size=16")
TWO = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.enable_progress_bar=false", "dataset.num_workers=1")


def draw(root: Path, count: int) -> None:
    """The pictures, in `train`; `val` is the same folder."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / part / "train").mkdir(parents=True)
        (root / part / "val").symlink_to("train")
    (root / "classes.csv").write_text("id,name\n0,one\n1,two\n2,three\n")
    for index in range(count):
        height, width = rng.integers(64, 257, 2)
        coarse = rng.integers(0, 3, (4, 4), dtype=np.uint8)
        label = cv2.resize(coarse, (int(width), int(height)), interpolation=cv2.INTER_NEAREST)
        noise = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f"images/train/{index:05d}.jpg"), label[..., None] * 90 + noise)
        cv2.imwrite(str(root / f"labels/train/{index:05d}.png"), label)


def held(process: psutil.Popen) -> float:
    """Megabytes of a process and all below it."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 2**20


def watched(command: list[str], progress: Callable[[], int]) -> Iterator[tuple[int, float]]:
    """Pictures that are done and megabytes, about every second."""
    with tempfile.TemporaryFile("w+") as log:
        process = psutil.Popen([sys.executable, *command], cwd=ROOT, stdout=log, stderr=log)
        while process.poll() is None:
            yield progress(), held(process)
            time.sleep(1)
        if process.returncode:
            log.seek(0)
            raise SystemExit(log.read())


def lines(folder: Path) -> int:
    return sum(path.read_text().count("\n") - 1 for path in folder.glob("**/metrics.csv"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    count = parser.parse_args().pictures
    os.environ |= {"OMP_NUM_THREADS": "1"}
    print("| work | MB at 100 pictures | MB at the end | most |\n|---|---|---|---|")
    grown = []
    with tempfile.TemporaryDirectory() as folder:
        root, runs = Path(folder, "soak"), Path(folder, "runs")
        draw(root, count)
        data = (
            "dataset=folder",
            f"dataset.root={root}",
            "dataset.crop=128",
            "dataset.window=128",
            "dataset.stride=128",
        )
        steps = (f"trainer.max_steps={count // 4}", "trainer.log_every_n_steps=25", "trainer.limit_val_batches=8")
        steps = (*steps, "dataset.batch_size=4", f"dataset.val_every={count // 4}", f"run_root={runs}", "trainer=ddp")
        train = ["train.py", "backbone=vit_micro", *SMALL, *data, *steps, *TWO]
        evaluate = ["eval.py", f"ckpt={runs}/last.ckpt", "save_predictions=true", "trainer.strategy=ddp", *TWO[:3]]
        evaluate += ["+dataset.num_workers=1"]
        works = {
            "training": (train, lambda: 100 * lines(runs)),
            "evaluation": (evaluate, lambda: sum(1 for _ in runs.glob("eval/**/*.png"))),
        }
        for work, (command, progress) in works.items():
            seen = [(done, size) for done, size in watched(command, progress) if 100 <= done < count]
            first, last = np.median([size for _, size in seen[:3]]), np.median([size for _, size in seen[-3:]])
            print(f"| {work} | {first:.0f} | {last:.0f} | {max(size for _, size in seen):.0f} |", flush=True)
            grown.append(last > 1.1 * first)
            for checkpoint in runs.glob("**/checkpoints/last.ckpt"):
                checkpoint.rename(runs / "last.ckpt")
    sys.exit(any(grown))


if __name__ == "__main__":
    main()
