"""The numbers and names that stand in the plots, read back from their SVG."""

import math
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segmenter_pl.analysis.drawing import COLORS, MARKERS, drawn, look
from segmenter_pl.analysis.plots import draw_classes, draw_speed, extremes
from segmenter_pl.analysis.published import published_rows
from segmenter_pl.analysis.runs import Run, find_runs
from tests.made_runs import make_run


@pytest.fixture
def texts(tmp_path: Path) -> Callable[[], list[str]]:
    """Every text of plot.svg: matplotlib notes it beside the outlines of its letters."""
    return lambda: re.findall(r"<!-- (.*?) -->", (tmp_path / "plot.svg").read_text(), re.DOTALL)


def runs(folder: Path) -> list[Run]:
    return find_runs([folder]).runs


def numbers(found: list[str]) -> list[str]:
    """Ticks and marks: texts that are nothing but a number."""
    return [one for one in found if re.fullmatch(r"[\d.]+", one)]


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


def test_runs_that_differ_in_more_than_the_seed_are_not_one_point(
    tmp_path: Path, texts: Callable[[], list[str]]
) -> None:
    """Each line has its own settings; two seeds are one point, in the middle of both."""
    for i, rate in enumerate((20.0, 40.0)):
        make_run(tmp_path / f"a{i}", "decoder=linear", f"seed={i}", speed=(rate,))
    make_run(tmp_path / "b", "decoder=linear", "optimizer=adamw", speed=(80.0,))
    make_run(tmp_path / "c", "decoder=linear", "trainer.max_steps=40", speed=(50.0,))
    make_run(tmp_path / "d", "decoder=linear", "dataset=ade20k", "backbone=vit_t16", speed=(60.0,))
    assert draw_speed(runs(tmp_path), [], tmp_path / "plot.svg") == []
    found = " ".join(texts())
    for label in (
        "linear decoder, vit/8, dataset=shapes optimizer=sgd max_steps=300",
        "linear decoder, vit/8, dataset=shapes optimizer=adamw max_steps=300",
        "linear decoder, vit/8, dataset=shapes optimizer=sgd max_steps=40",
        "linear decoder, vit/16, dataset=ade20k optimizer=sgd",
    ):
        assert found.count(label) == 1
    for one in ("b", "c", "d"):
        shutil.rmtree(tmp_path / one)
    draw_speed(runs(tmp_path), [], tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    ticks = re.findall(r'<g id="xtick_\d+">.*?<use [^>]*x="([\d.]+)".*?<!-- ([\d.]+) -->', text, re.DOTALL)
    places = {float(tick): float(x) for x, tick in ticks}
    (point,) = re.findall(r'<g clip-path="url\(#\w+\)">\s*<use [^>]*x="([\d.]+)"', text)
    decade = places[100] - places[10]
    assert float(point) == pytest.approx(places[10] + decade * math.log10(30 / 10), abs=0.5)


def test_the_speed_of_an_evaluation_is_taken_where_there_is_one(tmp_path: Path, texts: Callable[[], list[str]]) -> None:
    views = {"last/ade20k-val-none": 0.375, "best/ade20k-val-flip": 0.25}
    words = ("dataset=ade20k", "decoder=linear")
    make_run(tmp_path / "a", *words, "backbone=vit_s16", evaluations=views, evaluation_speed=150.0)
    make_run(tmp_path / "b", *words, "backbone=vit_b16", evaluations=views)
    told = draw_speed(runs(tmp_path), [], tmp_path / "plot.svg")
    assert told == [f"{tmp_path / 'b'}: no speed of last/val-none was recorded"]
    found = texts()
    assert {"Evaluated here (last/val-none)", "inference speed (images/s)", "vit_s16"} <= set(found)
    assert "vit_b16" not in found
    paper = [row for row in published_rows() if row.source == "paper"]
    draw_speed(runs(tmp_path), paper, tmp_path / "plot.svg")  # on one axis with the published speeds
    found = texts()
    assert found.count("validation mIoU (fraction)") == 1
    assert "inference speed (images/s); published: V100, 512×512" in found
    assert any("linear decoder, vit/16, published" in one for one in found)
    assert draw_speed(runs(tmp_path), [], tmp_path / "plot.svg", "training") == []
    assert {"training speed (images/s)", "vit_s16", "vit_b16"} <= set(texts())
    draw_speed(runs(tmp_path), [], tmp_path / "plot.svg", "best/val-flip")
    assert "Evaluated here (best/val-flip)" in texts()
    with pytest.raises(ValueError, match=r"speed of last/val-ms: .* there is training, best/val-flip, last/val-none"):
        draw_speed(runs(tmp_path), [], tmp_path / "plot.svg", "last/val-ms")


@pytest.mark.parametrize("rates", [(120.0, 180.0), (95.0, 105.0), (3.0, 7.0), (2.0, 900.0)])
def test_speeds_have_several_ticks(rates: tuple[float, float], tmp_path: Path, texts: Callable[[], list[str]]) -> None:
    for backbone, rate in zip(("vit_t16", "vit_s16"), rates, strict=True):
        make_run(tmp_path / backbone, f"backbone={backbone}", speed=(rate,))
    draw_speed(runs(tmp_path), [], tmp_path / "plot.svg")
    found = texts()
    ticks = [float(one) for one in numbers(found[: found.index("training speed (images/s)")])]
    low, high = min(rates), max(rates)
    assert len(ticks) >= 4
    assert len([tick for tick in ticks if 0.6 * low <= tick <= 1.7 * high]) >= 3


def test_the_runs_compared_are_of_the_same_classes(tmp_path: Path) -> None:
    """Those of most runs, the lowest and the highest of them."""
    for i, miou in enumerate((0.5, 0.25, 0.375)):
        make_run(tmp_path / str(i), f"seed={i}", miou=miou)
    for i, miou in enumerate((0.125, 0.75)):
        make_run(tmp_path / f"other{i}", f"seed={i}", "dataset=ade20k", classes={"wall": miou}, miou=miou)
    low, high = extremes(runs(tmp_path))
    assert (low.folder.name, high.folder.name) == ("1", "0")
    assert extremes([low]) == (low, low)
    with pytest.raises(ValueError, match="none of the runs is finished"):
        extremes([])


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
