"""The debug group: each option does what its first line says, and leaves real runs alone."""

import csv
import json
import logging
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from segmenter_pl.train import train
from tests.test_train import QUIET, TINY, configured


def debug(option: str, run_dir: Path, *overrides: str) -> dict[str, float]:
    config = configured("train", *TINY, *QUIET, f"debug={option}", f"run_dir={run_dir}", *overrides)
    assert config.name == f"debug_{option}"
    train(config)
    return json.loads((run_dir / "results.json").read_text())


def test_fdr_goes_through_everything_once(tmp_path: Path) -> None:
    for _ in range(2):  # again, though it is finished: debugging is about what changed since
        results = debug("fdr", tmp_path / "run")
        assert results["steps"] == 1
        assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "results.json"}
    assert (tmp_path / "old-run/results.json").exists()


def test_limit_is_a_run_in_little(tmp_path: Path) -> None:
    assert debug("limit", tmp_path, "dataset.batch_size=2")["steps"] == 10
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["val/miou"]] == ["5", "10"]
    assert not (tmp_path / "checkpoints").exists()


def test_overfit_drives_the_loss_down_on_one_batch(tmp_path: Path) -> None:
    larger = ("backbone.patch_size=8", "backbone.embed_dim=64", "dataset.batch_size=2")
    debug("overfit", tmp_path, "trainer.max_steps=120", "trainer.limit_val_batches=1", *larger)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.3 * losses[0]


def test_profile_leaves_a_table_of_times(tmp_path: Path) -> None:
    debug("profile", tmp_path, "dataset.batch_size=2")
    table = (tmp_path / "fit-profile.txt").read_text()
    assert "run_training_batch" in table
    assert "Total time" in table


def test_device_statistics_are_in_the_rows(tmp_path: Path) -> None:
    pytest.importorskip("psutil", reason="Lightning reads a CPU's statistics through psutil")
    debug("limit", tmp_path, "callbacks=device_stats", "dataset.batch_size=2", "trainer.max_steps=2")
    with (tmp_path / "metrics.csv").open(newline="") as file:
        columns = csv.DictReader(file).fieldnames or []
    assert any(column.startswith("device/cpu") for column in columns)


def test_every_option_composes_over_every_dataset() -> None:
    for path in (Path(__file__).parents[1] / "conf/debug").glob("*.yaml"):
        config = configured("train", f"debug={path.stem}", "dataset=folder", "dataset.root=DIR")
        assert OmegaConf.to_container(config, resolve=True)["resume"] == "never"


def test_a_profiler_by_name_prints_its_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("lightning.pytorch").addHandler(caplog.handler)  # it does not propagate
    debug("limit", tmp_path, "dataset.batch_size=2", "trainer.max_steps=1", "trainer.profiler=simple")
    logging.getLogger("lightning.pytorch").removeHandler(caplog.handler)
    assert "FIT Profiler Report" in caplog.text
