"""What W&B shows of a real run beside its rows, read back from the files of offline runs."""

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
import yaml
from PIL import Image

from segmenter_pl.data.classes import Classes
from segmenter_pl.eval import evaluate
from segmenter_pl.loggers import Prediction, Wandb, WandbRun, read_wandb_history, read_wandb_run
from segmenter_pl.train import train
from tests.test_commands import SHORT, TINY, run
from tests.test_train import QUIET, configured, tiny_run

OFFLINE = ("logger=wandb", "logger.offline=true")
SWEEP = ("backbone=vit_micro", "decoder=linear,mask", "name=sweep/a", "logger.artifacts=best")


def wandb_files(folder: Path) -> set[Path]:
    """The files of the runs that have ended."""
    wandb.teardown()  # W&B's own process writes their last part after `finish` has returned
    return set(folder.glob("wandb/offline-run-*/run-*.wandb"))


def wandb_file(folder: Path) -> Path:
    (path,) = wandb_files(folder)
    return path


def csv_rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def media(folder: Path, path: str) -> np.ndarray:
    return np.asarray(Image.open(wandb_file(folder).parent / "files" / path))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run directories of two jobs, by decoder."""
    runs = tmp_path_factory.mktemp("sweep")
    steps = ("trainer.max_steps=4", "dataset.val_every=2", "trainer.log_every_n_steps=1")
    environment = {"WANDB_SILENT": "true", "HOME": str(runs / "home")}
    done = run("train.py", "-m", *OFFLINE, *SWEEP, *TINY, *SHORT, *steps, runs=runs, environment=environment)
    assert done.returncode == 0, done.stderr
    folders = [path.parent for path in runs.glob("sweep/a/*/seed-0/results.json")]
    assert len(folders) == 2
    return {read_wandb_run(wandb_file(folder)).tags[-1]: folder for folder in folders}


def test_a_sweep_is_one_group_of_runs(sweep: dict[str, Path]) -> None:
    described = {decoder: read_wandb_run(wandb_file(folder)) for decoder, folder in sweep.items()}
    assert len({one.id for one in described.values()}) == 2
    for decoder, one in described.items():
        folder = sweep[decoder]
        assert (one.project, one.group, one.job_type) == ("segmenter-pl", "sweep/a", "train")
        assert one.tags == ["shapes", "vit_micro", decoder]
        assert one.name == f"{folder.parent.name}/seed-0"


def test_the_settings_are_a_plain_nested_dictionary(sweep: dict[str, Path]) -> None:
    for folder in sweep.values():
        config = read_wandb_run(wandb_file(folder)).config
        config.pop("_wandb")
        assert config == yaml.safe_load((folder / "config.yaml").read_text())


def test_rows_and_summary_are_those_of_the_record(sweep: dict[str, Path]) -> None:
    for folder in sweep.values():
        rows, logged = csv_rows(folder), read_wandb_history(wandb_file(folder))
        assert [row["_step"] for row in logged] == [row["step"] for row in rows] == [1, 2, 3, 4]
        for kept, row in zip(logged, rows, strict=True):
            assert {key: kept[key] for key in row if key != "step"} == {k: v for k, v in row.items() if k != "step"}
            own = {key for key in kept if key[0] != "_"} - set(row)
            assert own == ({"val/panel", "val/predictions", "val/confusion"} if "val/miou" in row else set())
        results, summary = json.loads((folder / "results.json").read_text()), read_wandb_run(wandb_file(folder)).summary
        for key in ("miou", "pixel_accuracy", "mean_accuracy", "loss"):
            assert summary[f"val/{key}"] == pytest.approx(results["val"][key], rel=1e-6)
            assert summary[f"best/{key}"] == pytest.approx(results["best"][key], rel=1e-6)
        assert summary["best/step"] == results["best"]["step"]


def test_the_table_of_classes_holds_last_and_best(sweep: dict[str, Path]) -> None:
    for folder in sweep.values():
        results = json.loads((folder / "results.json").read_text())
        entry = read_wandb_run(wandb_file(folder)).summary["classes"]
        table = json.loads((wandb_file(folder).parent / "files" / entry["path"]).read_text())
        assert table["columns"] == ["class", "IoU, last", "IoU, best"]
        assert {row[0] for row in table["data"]} == set(results["val"]["classes"])
        for name, last, best in table["data"]:
            assert last == pytest.approx(results["val"]["classes"][name], rel=1e-6)
            assert best == pytest.approx(results["best"]["classes"][name], rel=1e-6)


def test_each_validation_shows_the_same_pictures_with_masks(sweep: dict[str, Path]) -> None:
    for folder in sweep.values():
        rows = [row for row in read_wandb_history(wandb_file(folder)) if "val/predictions" in row]
        assert [row["_step"] for row in rows] == [2, 4]
        shown = [row["val/predictions"] for row in rows]
        assert shown[0]["captions"] == shown[1]["captions"] == ["val_000", "val_016", "val_032", "val_048"]
        assert shown[0]["_type"] == "images/separated"
        for i in range(4):
            pictures = [media(folder, one["filenames"][i]) for one in shown]
            truths = [media(folder, one["all_masks"][i]["truth"]["path"]) for one in shown]
            np.testing.assert_array_equal(*pictures)
            np.testing.assert_array_equal(*truths)
            assert pictures[0].shape[:2] == truths[0].shape
        settings = read_wandb_run(wandb_file(folder)).config["_wandb"]
        assert_labels(settings, "val/predictions")


def assert_labels(settings: dict[str, Any], key: str) -> None:
    names = settings["mask/class_labels"][f"{key}_wandb_delimeter_prediction"]["value"]
    assert names["0"] == "background"
    assert names["255"] == "(ignored)"
    assert len(names) == 7


def test_masks_agree_with_the_panel(sweep: dict[str, Path]) -> None:
    """The class ids of the masks, coloured, are what panels/ shows."""
    from segmenter_pl.data.shapes import CLASSES
    from segmenter_pl.visualize import colorize

    folder = sweep["mask"]
    palette = CLASSES.palette
    row = read_wandb_history(wandb_file(folder))[-1]["val/predictions"]
    with Image.open(folder / "panels/step000004.png") as picture:
        sheet = np.asarray(picture)
    for i, masks in enumerate(row["all_masks"]):
        y = 4 + i * (128 + 4)
        for column, key in ((1, "truth"), (2, "prediction")):
            x = 4 + column * (128 + 4)
            expected = colorize(media(folder, masks[key]["path"]), palette)
            np.testing.assert_array_equal(sheet[y : y + 128, x : x + 128], expected)


def test_the_best_checkpoint_is_an_artifact_on_demand(sweep: dict[str, Path], tmp_path: Path) -> None:
    for folder in sweep.values():
        one = read_wandb_run(wandb_file(folder))
        assert one.artifacts[f"checkpoint-{one.id}"] == ["best.ckpt"]
    train(tiny_run(tmp_path, *OFFLINE, "trainer.max_steps=1"))
    assert not any(name.startswith("checkpoint-") for name in read_wandb_run(wandb_file(tmp_path)).artifacts)


def test_another_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"logger\.artifacts=all: give none, best or last"):
        Wandb(tmp_path, artifacts="all")


def test_an_artifact_that_is_not_there_costs_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = Wandb(tmp_path, offline=True, artifacts="last")
    logger.begin(0, {})
    logger.log_metrics({"val/miou": 0.5}, 1)
    logger.finish(0)
    assert f"there is no {tmp_path / 'checkpoints/last.ckpt'} to upload" in capsys.readouterr().err
    assert read_wandb_run(wandb_file(tmp_path)).summary["best/miou"] == 0.5


def logged(folder: Path, rows: dict[int, dict[str, float]], earlier: dict[int, dict[str, float]]) -> WandbRun:
    """The run's description after a process that logs some rows after earlier ones."""
    time.sleep(1.0 - time.time() % 1.0)  # W&B names its files by the second
    before = wandb_files(folder)
    logger = Wandb(folder, offline=True)
    logger.begin(max(earlier, default=0), earlier)
    for step, row in rows.items():
        logger.log_metrics(row, step)
    logger.finish(0)
    (path,) = wandb_files(folder) - before
    return read_wandb_run(path)


def test_a_continued_run_knows_the_best_of_its_first_process(tmp_path: Path) -> None:
    """Though it does not log that row again."""
    rows = {step: {"val/miou": miou, "val/iou/road": miou / 2} for step, miou in ((1, 0.25), (2, 0.75), (3, 0.5))}
    first = logged(tmp_path / "a", rows, {})
    again = logged(tmp_path / "a", {4: {"val/miou": 0.5, "val/iou/road": 0.125}}, rows)
    assert first.id == again.id
    assert [one.summary["best/miou"] for one in (first, again)] == [0.75, 0.75]
    assert [one.summary["best/step"] for one in (first, again)] == [2, 2]
    assert again.summary["val/miou"] == 0.5
    (path,) = tmp_path.glob(f"a/wandb/offline-run-*/files/{again.summary['classes']['path']}")
    assert json.loads(path.read_text())["data"] == [["road", 0.125, 0.375]]


def test_more_classes_than_a_mask_can_hold_are_shown_without_masks(tmp_path: Path) -> None:
    classes = Classes(tuple(f"c{k}" for k in range(300)), ((0, 0, 0),) * 300, 32767)
    ids = np.full((6, 9), 299, np.int16)
    logger = Wandb(tmp_path, offline=True)
    logger.begin(0, {})
    picture = Prediction("one", np.zeros((6, 9, 3), np.uint8), ids, ids)
    logger.log_predictions("val/predictions", [picture], classes, 1)
    logger.log_metrics({"val/miou": 0.5}, 1)
    logger.finish(0)
    (row,) = read_wandb_history(wandb_file(tmp_path))
    assert row["val/predictions"]["captions"] == ["one"]
    assert "all_masks" not in row["val/predictions"]


def test_an_evaluation_is_a_run_of_the_trainings_group(sweep: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """And made once more it stays that run."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    checkpoint = sweep["mask"] / "checkpoints/last.ckpt"
    for _ in range(2):
        time.sleep(1.0 - time.time() % 1.0)  # W&B names its files by the second
        miou = evaluate(configured("eval", *QUIET, f"ckpt={checkpoint}", "wandb=mine", "fraction=0.1"))
    (folder,) = (sweep["mask"] / "eval/last").iterdir()
    files = sorted(wandb_files(folder))
    assert len({path.name for path in files}) == 1
    one = read_wandb_run(files[0])
    assert (one.project, one.group, one.job_type, one.tags) == ("mine", "sweep/a", "eval", ["shapes", "none"])
    assert one.name == "last/shapes-val-none-fraction0.1"
    assert one.config["window"] == 128
    (row,) = [row for path in files for row in read_wandb_history(path)]
    results = json.loads((folder / "results.json").read_text())
    assert row["val/miou"] == miou == results["val"]["miou"]
    assert row["val/iou/background"] == results["val"]["classes"]["background"]
    assert row["val/boundary_iou"] == results["boundary_iou"]
    assert row["val/confusion"]["_type"] == "image-file"
