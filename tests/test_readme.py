"""The README's commands, code and links are true: they compose, run, and lead somewhere."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl.cli import app
from segmenter_pl.train import train
from tests.test_train import configured, tiny_run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(start: str) -> list[str]:
    lines = (
        line.split("  #")[0].strip() for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()
    )
    return [line for line in lines if line.startswith(start)]


def test_there_is_something_to_check() -> None:
    assert "@@" not in README
    assert len(commands("python train.py")) >= 7
    assert len(commands("python eval.py")) >= 1
    assert {"make train", "make test"} <= set(commands("make "))
    assert len(blocks("python")) >= 1


@pytest.mark.parametrize("command", commands("python train.py") + commands("python eval.py"))
def test_commands_compose(command: str) -> None:
    _, script, *words = shlex.split(command)
    overrides = [word for word in words if not word.startswith("-")]
    if "-m" in words:  # the first job of the sweep
        overrides = [override.split(",")[0] for override in overrides]
    config = configured(script.removesuffix(".py"), *overrides)
    # An ablation's directory depends on what was typed, which only a running command knows (tests/test_ablations.py).
    OmegaConf.to_container(config, resolve="ablation=" not in command)


@pytest.mark.parametrize("command", sorted(set(commands("make "))))
def test_make_targets_exist(command: str) -> None:
    done = subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_and_pictures_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_named_options_exist_and_none_is_forgotten() -> None:
    for group in ("backbone", "decoder", "dataset", "optimizer", "trainer", "logger", "callbacks", "debug"):
        (row,) = re.findall(rf"^\| `{group}` \|(.*)\|$", README, flags=re.MULTILINE)
        named = set(re.findall(r"`([a-z][a-z0-9_]*)`", row))
        assert named == {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}, group


def test_python_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny_run(tmp_path / "run"))
    target = tmp_path / "RUN/checkpoints/best.ckpt"  # as the README writes it
    target.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "run/checkpoints/best.ckpt", target)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (150, 130)).save("photo.jpg")
    names = {"image": torch.zeros(3, 130, 140)}
    exec("\n".join(blocks("python")), names)
    (tmp_path / "photos").mkdir()
    shutil.copy("photo.jpg", "photos")
    (predict,) = commands("segmenter predict RUN")
    done = CliRunner().invoke(app, shlex.split(predict)[1:])
    assert done.exit_code == 0, done.output
    assert sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.*")) == [
        "labels/photo.png",
        "overlays/photo.jpg",
    ]
    assert names["logits"].shape == (1, 6, 128, 160)
    assert names["labels"].shape == (130, 150)
