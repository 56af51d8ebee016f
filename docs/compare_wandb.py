"""Compare what W&B's offline files hold with the runs' own records: `python docs/compare_wandb.py RUNS`.

Prints groups, numbers of runs and of compared values; exit code 1 at the first difference.
"""

import csv
import sys
from collections import Counter
from pathlib import Path

import yaml

from segmenter_pl.loggers import read_wandb_history, read_wandb_run


def main(root: Path) -> None:
    """Every finished run below `root` that has an offline file."""
    groups: Counter[str] = Counter()
    values = 0
    for results in sorted(root.rglob("results.json")):
        folder = results.parent
        for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
            described = read_wandb_run(file)
            config = {key: value for key, value in described.config.items() if key != "_wandb"}
            if config != yaml.safe_load((folder / "config.yaml").read_text()):
                sys.exit(f"{file}: the settings are not those of config.yaml")
            groups[described.group] += 1
            values += compared(folder / "metrics.csv", file)
    for group, number in groups.items():
        print(f"{group}: {number} runs")
    print(f"{values} values in W&B's files, all equal to metrics.csv")


def compared(record: Path, file: Path) -> int:
    """The number of values in a W&B file that are those of a metrics.csv; ends the program at one that is not."""
    with record.open(newline="") as opened:
        rows = {float(row["step"]): row for row in csv.DictReader(opened)}
    number = 0
    for logged in read_wandb_history(file):
        row = rows.pop(logged["_step"])
        for key, text in row.items():
            if text and key != "step":
                if logged[key] != float(text):
                    sys.exit(f"{file}: {key} is {logged[key]} at step {logged['_step']}, metrics.csv has {text}")
                number += 1
    if rows:
        sys.exit(f"{file}: steps {sorted(rows)} are missing")
    return number


if __name__ == "__main__":
    main(Path(sys.argv[1]))
