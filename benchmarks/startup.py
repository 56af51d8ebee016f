"""CPU time until a command answers: `python benchmarks/startup.py [RUNS]`. Prints a table.

User and system seconds of a process, the least of RUNS (default 7) alternating runs: what else the machine does only
adds to them. "Beyond" is what is left after Python's own start and the import of Hydra or Typer.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = "import sys; from segmenter_pl.cli import main; sys.argv = ['segmenter', *sys.argv[1:]]; main()"
BASES = {"": "pass", "hydra": "import hydra", "typer": "import typer"}
COMPLETION = {"_SEGMENTER_COMPLETE": "complete_bash", "COMP_WORDS": "segmenter benchmark --m", "COMP_CWORD": "2"}
# What a person types: the words after `python`, the environment, and what it is built on.
TYPED: dict[str, tuple[list[str], dict[str, str], str]] = {
    "import segmenter_pl": (["-c", "import segmenter_pl"], {}, ""),
    "python train.py --help": (["train.py", "--help"], {}, "hydra"),
    "python eval.py --help": (["eval.py", "--help"], {}, "hydra"),
    "segmenter-train backbone=vit_⇥": (["train.py", "-sc", "query=bash"], {"COMP_LINE": "x backbone=vit_"}, "hydra"),
    "segmenter --help": (["-c", COMMAND, "--help"], {}, "typer"),
    "segmenter predict --help": (["-c", COMMAND, "predict", "--help"], {}, "typer"),
    "segmenter benchmark --help": (["-c", COMMAND, "benchmark", "--help"], {}, "typer"),
    "segmenter benchmark --m⇥": (["-c", COMMAND], COMPLETION, "typer"),
}


def cpu_seconds(words: list[str], environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    settings = {**os.environ, **environment}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=settings, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(runs: int = 7) -> None:
    wanted = {f"import {name}".strip(): (["-c", code], {}, name) for name, code in BASES.items()} | TYPED
    least = dict.fromkeys(wanted, float("inf"))
    for _ in range(runs):
        for name, (words, environment, _) in wanted.items():
            least[name] = min(least[name], cpu_seconds(words, environment))
    print("| typed | CPU, s | beyond, s |\n|---|---|---|")
    for name, (_, _, base) in wanted.items():
        beyond = f"{least[name] - least[f'import {base}'.strip()]:.2f}" if name in TYPED else "–"
        shown = f"`{name}`" if name != "import" else "Python alone"
        print(f"| {shown} | {least[name]:.2f} | {beyond} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
