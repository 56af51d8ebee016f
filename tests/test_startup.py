"""Help, completion and the bare import load nothing heavy: seen in fresh interpreters, by what is in memory after."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {
    *("torch", "torchvision", "lightning", "torchmetrics", "timm", "albumentations", "wandb", "cv2", "matplotlib"),
    *("numpy", "scipy", "PIL", "requests", "safetensors", "huggingface_hub", "onnx", "tensorboard", "IPython"),
}
OF_HYDRA = {"hydra", "omegaconf"}
RUN = """
import runpy, sys
sys.argv = {argv!r}
try:
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        from segmenter_pl.cli import main
        main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("LOADED", *sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""


def ran(argv: list[str], environment: Mapping[str, str] | None = None) -> tuple[str, set[str]]:
    """What a command printed, and the top-level packages in memory at its end."""
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(argv=argv)],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.rpartition("LOADED ")[2].split())


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]])
def test_settings_are_told_by_hydra_alone(script: str, words: list[str]) -> None:
    printed, loaded = ran([script, *words])
    assert printed
    assert loaded >= OF_HYDRA
    assert not loaded & {*HEAVY, "typer", "rich"}


def test_completion_of_settings_is_quick() -> None:
    printed, loaded = ran(["train.py", "-sc", "query=bash"], {"COMP_LINE": "train.py backbone=vit_b"})
    assert "backbone=vit_b16" in printed.split()
    assert not loaded & HEAVY


def test_every_command_tells_its_help_without_loading_what_it_runs_on() -> None:
    code = """
from typer.main import get_command
from typer.testing import CliRunner
from segmenter_pl.cli import app
def paths(command, words=()):
    yield list(words)
    for name, one in getattr(command, "commands", {}).items():
        yield from paths(one, (*words, name))
import sys
for words in paths(get_command(app)):
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0 and "Usage" in done.stdout, words
    print(*words)
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"predict", "benchmark", "prepare ade20k", "plot curves"} <= set(done.stdout.splitlines())
    assert not set(done.stderr.rpartition("LOADED ")[2].split()) & {*HEAVY, *OF_HYDRA}


@pytest.mark.parametrize(
    ("typed", "offered"), [("segmenter ben", {"benchmark"}), ("segmenter benchmark --me", {"--memory"})]
)
def test_completion_of_commands_is_quick(typed: str, offered: set[str]) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    printed, loaded = ran(["segmenter"], {"_SEGMENTER_COMPLETE": "complete_bash", **words})
    assert set(printed.split()) == offered
    assert not loaded & {*HEAVY, *OF_HYDRA}


def test_the_package_loads_its_parts_when_they_are_used() -> None:
    code = """
import sys, segmenter_pl
def parts(): return {name for name in sys.modules if name.startswith("segmenter_pl.")}
def heavy(): return {"torch", "timm", "lightning", "hydra", "cv2", "numpy"} & set(sys.modules)
assert not parts() and not heavy(), (parts(), heavy())
assert "Predictor" in dir(segmenter_pl) and not parts()
segmenter_pl.predict_labels
assert "segmenter_pl.inference" in parts() and "segmenter_pl.models" not in parts(), parts()
assert heavy() == {"torch", "numpy"}, heavy()
segmenter_pl.create_segmenter
assert "segmenter_pl.models" in parts() and "lightning" not in sys.modules and "hydra" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
