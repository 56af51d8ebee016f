"""Train, evaluate, predict on each published dataset, as tiny trees in the official layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl.cli import app
from segmenter_pl.eval import evaluate
from segmenter_pl.train import train
from tests import layouts
from tests.test_commands import TINY, run
from tests.test_train import QUIET, configured, tiny_run

COUNTED = "ignore:.*published are.*:UserWarning"  # the trees here are tiny
SMALL = ("dataset.crop=32", "dataset.window=32", "dataset.stride=16", "dataset.short_side=32", "dataset.num_workers=0")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.array(file)


@pytest.mark.filterwarnings(COUNTED)
@pytest.mark.parametrize(
    ("name", "classes"), [("ade20k", 150), ("pascal_context", 60), ("cityscapes", 19), ("rgbt_glass", 2)]
)
def test_train_evaluate_predict(name: str, classes: int, tmp_path: Path) -> None:
    truth = getattr(layouts, name)(tmp_path / "data")
    settings = (f"dataset={name}", f"dataset.root={tmp_path / 'data'}", *SMALL)
    train(tiny_run(tmp_path / "run", *settings))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert len(results["val"]["classes"]) == classes

    # The evaluation, told nothing but the checkpoint, finds the same pictures and the same number.
    miou = evaluate(configured("eval", f"ckpt={checkpoint}", "save_predictions=true", *QUIET))
    assert miou == pytest.approx(results["val"]["miou"])
    folder = tmp_path / "run" / "eval" / "last" / f"{name}-val-none" / "predictions"
    written = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.png")}
    assert len(written) == len(truth["val"])
    hits = [0, 0]
    for picture, mask in truth["val"].items():
        (path,) = (p for n, p in written.items() if f"/{picture}.png".endswith(f"/{n}"))
        valid = mask != layouts.IGNORED
        hits[0] += int((pixels(path) == mask)[valid].sum())
        hits[1] += int(valid.sum())
    assert hits[0] / hits[1] == pytest.approx(results["val"]["pixel_accuracy"])

    suffix = "jpg" if name in ("ade20k", "pascal_context") else "png"
    picture = next(p for p in (tmp_path / "data").rglob(f"*.{suffix}") if next(iter(truth["val"])) in p.as_posix())
    words = ["predict", str(checkpoint), str(picture), "-o", str(tmp_path / "out"), "--device", "cpu"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    (labels,) = (tmp_path / "out" / "labels").glob("*.png")
    assert pixels(labels).shape == next(iter(truth["val"].values())).shape
    assert pixels(labels).max() < classes


@pytest.mark.filterwarnings(COUNTED)
@pytest.mark.parametrize(
    ("name", "file"), [("ade20k", "ADE_test_00000001.png"), ("cityscapes", "berlin_000000_000019_labelIds.png")]
)
def test_the_test_part_gives_a_submission(name: str, file: str, tmp_path: Path) -> None:
    getattr(layouts, name)(tmp_path / "data")
    settings = (f"dataset={name}", f"dataset.root={tmp_path / 'data'}", *SMALL, "dataset.train_split=trainval")
    train(tiny_run(tmp_path / "run", *settings, "trainer.max_steps=1"))
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    words = ("split=test", "save_predictions=true", f"submission={name}")
    assert np.isnan(evaluate(configured("eval", f"ckpt={checkpoint}", *words, *QUIET)))
    folder = tmp_path / "run" / "eval" / "last" / f"{name}-test-none"
    assert [path.name for path in folder.rglob("*.png") if "submission" in path.parent.as_posix()] == [file]


def test_without_the_data_one_message_names_the_command(tmp_path: Path) -> None:
    done = run("train.py", "dataset=cityscapes", f"data_root={tmp_path}", *TINY, runs=tmp_path / "runs")
    assert done.returncode == 1
    assert f"segmenter prepare cityscapes --root {tmp_path}/cityscapes" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))
