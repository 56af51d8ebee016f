"""The numbers and names that stand in the plots, read back from their SVG."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import stdev

import pytest

from segmenter_pl.analysis.drawing import COLORS, MARKERS, drawn, look
from segmenter_pl.analysis.plots import draw_classes, draw_dataset_size, draw_heat_map, draw_speed
from segmenter_pl.analysis.published import published_rows
from segmenter_pl.analysis.runs import Run, find_runs
from tests.made_runs import make_run


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
    assert {"0.1250", "0.7500", "backbone.dropout", "backbone.drop_path_rate"} <= set(found)
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


def test_speeds_of_runs_and_publications_stand_apart(tmp_path: Path, texts: Callable[[], list[str]]) -> None:
    make_run(tmp_path / "a", "dataset=ade20k", "backbone=vit_s16", "decoder=linear")
    make_run(tmp_path / "b", "dataset=ade20k", "backbone=vit_b16", "decoder=linear")
    draw_speed(runs(tmp_path), [], tmp_path / "plot.svg")
    assert {"vit_s16", "vit_b16", "linear decoder, vit/16", "training speed (images/s)"} <= set(texts())
    paper = [row for row in published_rows() if row.source == "paper"]
    draw_speed(runs(tmp_path), paper, tmp_path / "plot.svg")
    found = texts()
    assert {"inference speed on a V100, 512×512 (images/s)", "SETR-L MLA vit_l16", "linear decoder, deit/16"} <= set(
        found
    )
    assert found.count("deit_b16") == 2  # linear and mask, though two tables have the first one


def test_classes_are_ordered_by_what_the_second_gains(tmp_path: Path, texts: Callable[[], list[str]]) -> None:
    first = {"road": 0.9, "pole": 0.25, "car": 0.5, "absent": None, "only": 0.1}
    second = {"road": 0.8, "pole": 0.75, "car": 0.5, "absent": 0.5}
    make_run(tmp_path / "a", "decoder=linear", classes=first)
    make_run(tmp_path / "b", "decoder=mask", classes=second, miou=0.625)
    draw_classes(*runs(tmp_path), tmp_path / "plot.svg")
    found = texts()
    names = [one for one in found if one in {*first, *second}]
    assert names == ["road", "car", "pole"]
    assert [one for one in found if re.fullmatch(r"[+-]0\.\d{3}", one)] == ["-0.100", "+0.000", "+0.500"]
    assert {"decoder=linear: mIoU 0.5000", "decoder=mask: mIoU 0.6250"} <= set(found)


def test_of_many_classes_those_that_differ_most(tmp_path: Path, texts: Callable[[], list[str]]) -> None:
    make_run(tmp_path / "a", classes={f"c{i}": 0.5 for i in range(150)})
    make_run(tmp_path / "b", "seed=1", classes={f"c{i}": 0.5 + i / 1000 for i in range(150)})
    draw_classes(*runs(tmp_path), tmp_path / "plot.svg")
    found = texts()
    assert [one for one in found if re.fullmatch(r"c\d+", one)] == [f"c{i}" for i in range(110, 150)]
    assert "the 40 of 150 classes that differ most" in found
    assert {"seed 0: mIoU 0.5000", "seed 1: mIoU 0.5000"} <= set(found)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "a", classes={"x": 0.5})
    make_run(tmp_path / "b", "seed=1", classes={"y": 0.5})
    with pytest.raises(ValueError, match="have no class in common"):
        draw_classes(*runs(tmp_path), tmp_path / "plot.svg")


def test_series_can_be_told_apart() -> None:
    looks = [tuple(look(n).values()) for n in range(28)]
    assert len(set(looks)) == 28
    assert len(COLORS) == len(MARKERS) == 7


def test_endings_and_a_missing_matplotlib_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ValueError, match=r"plot.xyz: give the name of a picture, ending in .png"),
        drawn(tmp_path / "plot.xyz"),
    ):
        pass
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r'pip install "segmenter-pl\[plots\]"'), drawn(tmp_path / "plot.png"):
        pass
    assert not list(tmp_path.iterdir())
