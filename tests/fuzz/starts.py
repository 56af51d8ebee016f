"""Commands with wrong words and files, each in a process of its own: `python -m tests.fuzz.starts FOLDER FIRST COUNT`.

The libraries are loaded once; a start is a fork of that process, which takes milliseconds instead of seconds.
"""

import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segmenter_pl import cli
from segmenter_pl import eval as evaluation
from segmenter_pl import train as training
from tests.fuzz.judging import Watch
from tests.fuzz.start_cases import FIXED, PICTURES, SMALL, case, furnish, write

PATIENCE = 90.0  # seconds for a start
MEMORY = 12 << 30  # bytes of addresses; torch alone takes some
LATE = (
    "build",
    "evaluation",
    "callbacks",
    "commands.prediction",
    "checking.survey",
    "export.convert",
    "analysis.plots",
)


def start(words: tuple[str, ...], home: Path, folder: Path) -> dict[str, Any]:
    """A command in a process of its own, which works in `home`: exit code, output, and what it touched elsewhere."""
    out, err, seen = (folder / name for name in ("stdout", "stderr", "seen"))
    seen.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            _run(words, home, out, err, seen)
        finally:
            os._exit(99)
    end, status = time.monotonic() + PATIENCE, None
    while status is None and time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
        time.sleep(0.01)
    if status is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    texts = {path.name: path.read_text(errors="replace") for path in (out, err)}
    return {"code": status, **texts, "seen": json.loads(seen.read_text()) if seen.exists() else ["it ended abruptly"]}


def _run(words: tuple[str, ...], home: Path, out: Path, err: Path, seen: Path) -> None:
    os.setsid()
    os.chdir(home)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    (home / "tmp").mkdir(exist_ok=True)
    tempfile.tempdir = str(home / "tmp")
    os.environ |= {"HOME": str(home), "SEGMENTER_CACHE": str(home / "cache"), "SEGMENTER_RUNS": "runs"}
    sys.argv = [*words]
    mains: dict[str, Callable[[], Any]] = {"train.py": training.main, "eval.py": evaluation.main, "segmenter": cli.main}
    watch, code = Watch(home), 0
    try:
        with watch:
            mains[words[0]]()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    seen.write_text(json.dumps(watch.seen))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def trained(folder: Path) -> dict[str, bytes]:
    """`furnish`, and the files of a finished training on them."""
    files, home = furnish(folder), folder / "run"
    write(home / "in", files)
    words = ("train.py", *PICTURES, *SMALL, *FIXED["train.py"], "run_root=runs", "callbacks=default")
    end = start(words, home, folder)
    assert end["code"] == 0, end
    run = next((home / "runs").rglob("results.json")).parent
    for name in ("results.json", "metrics.csv", "config.yaml"):
        files[f"run/{name}"] = (run / name).read_bytes()
    return files | {"run.ckpt": (run / "checkpoints/best.ckpt").read_bytes()}


def wrong(end: dict[str, Any]) -> list[str]:
    """What is wrong with an end of `start`."""
    error = any(line.startswith(("Error", "Usage", "Not done")) for line in end["stderr"].splitlines())
    return [
        text
        for text, met in {
            "it does not end": end["code"] is None,
            "it crashes": (end["code"] or 0) < 0 or end["code"] == 99,
            "a trace": "Traceback (most recent call last)" in end["stderr"] + end["stdout"],
            "it ends well in spite of an error": end["code"] == 0 and error,
            "it fails without a word": end["code"] not in (0, None) and not (end["stderr"] + end["stdout"]).strip(),
            f"it touches {end['seen']}": bool(end["seen"]),
        }.items()
        if met
    ]


def main(folder: Path, first: int, count: int) -> None:
    """Prints a line of JSON for each finding, and at last how the starts ended."""
    for name in LATE:  # what the commands load when they run
        importlib.import_module(f"segmenter_pl.{name}")
    files, codes = trained(folder), Counter[str]()
    for seed in range(first, first + count):
        words, given = case(seed, files)
        home = folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        write(home / "in", given)
        before = sorted(os.listdir(folder))
        end = start(words, home, folder)
        findings = wrong(end)
        if strange := [name for name, content in given.items() if (home / "in" / name).read_bytes() != content]:
            findings.append(f"it changes {strange}")
        if beside := {*os.listdir(folder)} - {*before, "stdout", "stderr", "seen"}:
            findings.append(f"it writes {beside}")
        codes[f"{words[0]} {end['code']}"] += 1
        if findings:
            finding = {"seed": seed, "words": words, "findings": findings, "said": end["stderr"][-3000:]}
            print(json.dumps(finding), flush=True)  # what is not flushed, the next fork has too
    print(json.dumps({"codes": codes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
