"""Pictures of sweeps: the numbers and names in them, read back from their SVG."""

import re
from collections.abc import Callable
from pathlib import Path
from statistics import stdev

import pytest

from segmenter_pl.analysis.runs import Run, find_runs
from segmenter_pl.analysis.sweeps import draw_dataset_size, draw_heat_map
from tests.made_runs import make_run

AXES = ("backbone.drop_path_rate", "backbone.dropout")


@pytest.fixture
def texts(tmp_path: Path) -> Callable[[], list[str]]:
    """Every text of plot.svg: matplotlib notes it beside the outlines of its letters."""
    return lambda: re.findall(r"<!-- (.*?) -->", (tmp_path / "plot.svg").read_text(), re.DOTALL)


def runs(folder: Path) -> list[Run]:
    return find_runs([folder]).runs


def test_heat_map_has_mean_and_deviation_of_each_cell(tmp_path: Path, texts: Callable[[], list[str]]) -> None:
    for i, (dropout, depth, miou) in enumerate(
        [(0.0, 0.1, 0.5), (0.0, 0.1, 0.25), (0.1, 0.1, 0.125), (0.1, 0.0, 0.75)]
    ):
        words = (f"seed={i}", f"backbone.dropout={dropout}", f"backbone.drop_path_rate={depth}")
        make_run(tmp_path / str(i), *words, miou=miou)
    draw_heat_map(runs(tmp_path), tmp_path / "plot.svg", "backbone.drop_path_rate", "backbone.dropout")
    found = texts()
    assert "0.3750" in found
    assert f"± {stdev([0.5, 0.25]):.4f} (2)" in found
    assert {"0.1250", "0.7500", "dropout", "stochastic depth"} <= set(found)
    assert len([one for one in found if re.fullmatch(r"0\.\d{4}", one)]) == 3
    with pytest.raises(ValueError, match=r"no run has backbone.nothing, backbone.dropout and miou"):
        draw_heat_map(runs(tmp_path), tmp_path / "other.svg", "backbone.nothing", "backbone.dropout")


def test_sizes_of_the_training_set(tmp_path: Path, texts: Callable[[], list[str]]) -> None:
    """A run without a number had all pictures, as many as its checkpoint says."""
    make_run(tmp_path / "a", "dataset.train_images=100", numbers=3)
    with pytest.raises(ValueError, match="fewer than two sizes"):
        draw_dataset_size(runs(tmp_path), tmp_path / "plot.svg")
    make_run(tmp_path / "b", numbers=3)
    draw_dataset_size(runs(tmp_path), tmp_path / "plot.svg")
    assert {"shapes, vit_micro, mask, sgd", "training pictures", "validation mIoU (fraction)", "350"} <= set(texts())


@pytest.mark.parametrize(
    ("word", "keys"),
    [
        ("trainer.max_steps=40", "trainer.max_steps"),
        ("decoder=linear", "decoder"),
        ("optimizer=adamw", "optimizer"),
        ("tag=again", "tag"),
        ("backbone=vit_t16", "backbone"),
    ],
)
def test_a_heat_map_is_of_one_sweep(word: str, keys: str, tmp_path: Path) -> None:
    """Not the mean of runs with other steps or another decoder, which would look like one over seeds."""
    for i, words in enumerate(((), (word,))):
        for rate in (0.0, 0.1):
            make_run(tmp_path / f"{i}{rate}", f"backbone.dropout={rate}", "backbone.drop_path_rate=0.1", *words)
    with pytest.raises(ValueError, match=rf"the runs differ in {keys} beside .*: give the folder of one sweep"):
        draw_heat_map(runs(tmp_path), tmp_path / "plot.svg", *AXES)
    assert not (tmp_path / "plot.svg").exists()


def test_runs_without_the_number_are_told(tmp_path: Path, texts: Callable[[], list[str]]) -> None:
    make_run(tmp_path / "a", "backbone.dropout=0.1", evaluations={"last/shapes-val-none": 0.375})
    make_run(tmp_path / "b", "backbone.dropout=0.2", "decoder=linear")  # of another sweep, but not drawn
    told = draw_heat_map(runs(tmp_path), tmp_path / "plot.svg", *AXES, "last/val-none")
    assert told == [f"{tmp_path / 'b'}: has no last/val-none"]
    assert "0.3750" in texts()
    with pytest.raises(ValueError, match=r"status is no number \('finished'\)"):
        draw_heat_map(runs(tmp_path), tmp_path / "plot.svg", *AXES, "status")


def test_sizes_of_unlike_runs_are_lines_of_their_own(tmp_path: Path, texts: Callable[[], list[str]]) -> None:
    for steps in (40, 80):
        for size in (100, 200):
            words = (f"dataset.train_images={size}", f"trainer.max_steps={steps}")
            make_run(tmp_path / f"{steps}-{size}", *words, miou=steps / 160)
    make_run(tmp_path / "whole", "trainer.max_steps=40")  # without a checkpoint to tell its size
    told = draw_dataset_size(runs(tmp_path), tmp_path / "plot.svg")
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path / 'whole'}: its checkpoint, which tells the number of training pictures")
    assert {f"shapes, vit_micro, mask, sgd, max_steps={steps}" for steps in (40, 80)} <= set(texts())
