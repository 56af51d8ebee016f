"""The W&B workspace: the definition that would be sent, and that runs log what it shows."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segmenter_pl import dashboard
from segmenter_pl.cli import app
from segmenter_pl.dashboard import SECTIONS, build_dashboard
from segmenter_pl.loggers import read_wandb_history, read_wandb_run
from segmenter_pl.train import train
from tests.test_train import tiny_run
from tests.test_wandb_details import wandb_file


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    """What the package sends for our workspace."""
    workspace = build_dashboard("segmenter-pl", "me")
    return json.loads(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True))


def test_the_definition_has_the_sections_in_order(definition: dict[str, Any]) -> None:
    assert (definition["entity"], definition["project"], definition["displayName"]) == (
        "me",
        "segmenter-pl",
        "Segmenter",
    )
    sections = definition["spec"]["section"]["panelBankConfig"]["sections"]
    assert [one["name"] for one in sections] == ["training", "validation", "classes", "pictures", "system"]
    assert all(one["isOpen"] for one in sections)
    assert [len(one["panels"]) for one in sections] == [3, 4, 3, 2, 3]
    (runs,) = definition["spec"]["section"]["runSets"]
    assert {"run:group", "summary:best/miou"} < set(runs["runFeed"]["columnVisible"])


def test_the_panels_show_the_keys(definition: dict[str, Any]) -> None:
    sections = definition["spec"]["section"]["panelBankConfig"]["sections"]
    panels = {(s["name"], p["config"].get("chartTitle")): p for s in sections for p in s["panels"]}
    loss = panels["training", "loss"]
    assert loss["viewType"] == "Run History Line Plot"
    assert (loss["config"]["xAxis"], loss["config"]["metrics"]) == ("_step", ["train/loss"])
    rates = panels["training", "learning rates"]["config"]
    assert (rates["metricRegex"], rates["useMetricRegex"]) == ("^lr/", True)
    assert panels["validation", "mIoU, best and last"]["config"]["metrics"] == ["best/miou", "val/miou"]
    masks = panels["pictures", "predictions and truth as masks"]
    assert masks["viewType"] == "Media Browser"
    assert masks["config"]["mediaKeys"] == ["val/predictions"]
    assert masks["config"]["gallerySettings"] == {"axis": "step"}
    (table,) = (p for s in sections if s["name"] == "classes" for p in s["panels"] if p["viewType"] == "Weave")
    assert '"val": "classes"' in json.dumps(table["config"])


def test_a_run_logs_what_the_panels_show(tmp_path: Path) -> None:
    train(tiny_run(tmp_path, "logger=wandb", "logger.offline=true", "callbacks=device_stats"))
    path = wandb_file(tmp_path)
    rows, summary = read_wandb_history(path), read_wandb_run(path).summary
    logged = {key for row in rows for key in row}
    for panel in (one for content in SECTIONS.values() for one in content):
        known = set(summary) if panel.kind in ("bar", "table") else logged
        assert set(panel.keys) <= known, panel
        if panel.pattern:
            assert any(re.search(panel.pattern, key) for key in logged), panel
    assert {one.removeprefix("summary:") for one in dashboard.PINNED if one.startswith("summary:")} <= set(summary)


def test_the_command_lists_what_would_be_saved() -> None:
    done = CliRunner().invoke(app, ["dashboard", "segmenter-pl"])
    assert done.exit_code == 0, done.output
    for section in SECTIONS:
        assert f"\n{section}\n" in done.stdout
    assert "line  loss: train/loss\n" in done.stdout
    assert "Nothing was sent" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a/b/c"], "a/b/c is no project: give PROJECT or ENTITY/PROJECT"),
        (["/c"], "/c is no project"),
        (["p", "--push"], "give ENTITY/p"),
    ],
)
def test_the_command_refuses(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["dashboard", *arguments])
    assert done.exit_code == 1
    assert said in done.stderr


def test_a_server_that_is_not_there_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    done = CliRunner().invoke(app, ["dashboard", "me/p", "--push"])
    assert done.exit_code == 1
    assert "Error: the workspace could not be saved in me/p (" in done.stderr
    assert "wandb login" in done.stderr


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    done = CliRunner().invoke(app, ["dashboard", "p"])
    assert done.exit_code == 1
    assert 'pip install "segmenter-pl[dashboard]"' in done.stderr
