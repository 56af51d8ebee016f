"""kill -9 at random moments: does the same command end with the same bits?

    python benchmarks/kill.py [--moments 30] [override …]

Runs a short training on the shapes once without interruption, then once for each moment: started, killed after a
random time (every second one: at the next moment a checkpoint is half written), started again. Weights, metrics.csv
(without the columns of speed and memory) and results.json must be equal to the last bit. Prints one line per moment,
and where it fell; exits with 1 if any run differs.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
SHORT = (
    "backbone.embed_dim=32",
    "backbone.depth=1",
    "backbone.num_heads=1",
    "backbone.patch_size=16",
    "decoder.depth=1",
    "dataset.batch_size=4",
    "dataset.train_images=30",
    "dataset.val_every=15",
    "trainer.max_steps=60",
    "trainer.limit_val_batches=8",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "trainer=cpu",
    "checkpoint_every=1",
)
MEASURED = ("train/images_per_second", "train/peak_memory_gb")


def start(runs: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "SEGMENTER_RUNS": "runs", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *SHORT, *overrides]
    return subprocess.Popen(command, cwd=runs, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def wait_for(runs: Path, name: str, process: subprocess.Popen[bytes]) -> Path:
    while process.poll() is None or list(runs.rglob(name)):
        if found := list(runs.rglob(name)):
            return found[0]
        time.sleep(0.002)
    raise SystemExit(f"the run ended with {process.returncode} before it wrote {name}")


def wait_for_write(runs: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a file is being written under its temporary name."""
    (run_dir,) = (path.parent for path in runs.rglob("config.yaml"))
    while process.poll() is None:
        if any((run_dir / "checkpoints").glob("*.tmp")):
            return


def outcome(runs: Path) -> dict[str, Any]:
    (results,) = runs.rglob("results.json")
    with (results.parent / "metrics.csv").open(newline="") as file:
        rows = [{key: value for key, value in row.items() if key not in MEASURED} for row in csv.DictReader(file)]
    states = {
        name: torch.load(results.parent / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
        for name in ("last", "best")
    }
    return {"rows": rows, "results": json.loads(results.read_text().replace(str(runs), "")), "states": states}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    found = [name for name in ("rows", "results") if one[name] != other[name]]
    for name, state in one["states"].items():
        found += [f"{name}.ckpt {key}" for key in state if not torch.equal(state[key], other["states"][name][key])]
    return found


def moment(runs: Path) -> str:
    """What the killed run left behind, in words."""
    if list(runs.rglob("results.json")):
        return "after its end"
    torn = [path.name for path in runs.rglob("*.tmp")]
    checkpoints = [torch.load(path, weights_only=True)["global_step"] for path in runs.rglob("last.ckpt")]
    return f"at step {checkpoints[0] if checkpoints else 0}" + (f", while {torn[0]} was written" if torn else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments, overrides = parser.parse_known_args()
    draw = random.Random(arguments.seed)
    failed = writing = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole")
        whole.mkdir()
        process = start(whole, overrides)
        wait_for(whole, "config.yaml", process)
        begin = time.perf_counter()
        wait_for(whole, "results.json", process)
        length = time.perf_counter() - begin
        assert process.wait() == 0
        expected = outcome(whole)
        print(f"uninterrupted: {len(expected['rows'])} rows, {length:.1f} s from its first file to its last")
        for number in range(arguments.moments):
            runs = Path(folder, f"killed{number}")
            runs.mkdir()
            delay = draw.uniform(0, length)
            process = start(runs, overrides)
            wait_for(runs, "config.yaml", process)
            time.sleep(delay)
            if number % 2:
                wait_for_write(runs, process)
            with contextlib.suppress(ProcessLookupError):  # it was done already
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            where = moment(runs)
            writing += "written" in where
            assert start(runs, overrides).wait() == 0
            wrong = differences(expected, outcome(runs))
            failed += bool(wrong)
            print(f"{number + 1:3d}  killed after {delay:5.2f} s, {where}: {', '.join(wrong) or 'equal'}", flush=True)
    print(f"{arguments.moments - failed} of {arguments.moments} equal; {writing} were killed while a file was written")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
