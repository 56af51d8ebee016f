"""Tables of runs: numbers against numpy, and cells that survive Markdown and LaTeX."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from segmenter_pl.analysis.formats import csv_text, latex_text, markdown_text, shown
from segmenter_pl.analysis.runs import Run, find_runs
from segmenter_pl.analysis.tables import Spread, group_table, run_table
from tests.made_runs import make_run


def made(root: Path) -> list[Run]:
    for decoder, mious in (("linear", (0.5, 0.25, 0.625)), ("mask", (0.75, 0.5))):
        for seed, miou in enumerate(mious):
            make_run(root / decoder / f"seed-{seed}", f"decoder={decoder}", f"seed={seed}", miou=miou)
    return find_runs([root]).runs


def test_a_row_says_what_the_files_say(tmp_path: Path) -> None:
    views = {"last/shapes-val-none": 0.375, "last/other-val-none": 0.125}
    make_run(tmp_path / "seed-3", "seed=3", "trainer.max_steps=40", numbers=1234, evaluations=views)
    (row,) = run_table(find_runs([tmp_path]).runs)
    assert row == {
        "name": "shapes",
        "settings": "",
        "seed": 3,
        "status": "finished",
        "steps": 40,
        "miou": 0.5,
        "best_miou": 0.625,
        "pixel_accuracy": 0.75,
        "last/other-val-none": 0.125,
        "last/val-none": 0.375,
        "parameters": 1234,
        "images_per_second": 40.0,
    }


def test_parameters_are_recorded_and_only_else_counted_in_the_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "seed-0", numbers=1234)
    unfinished = make_run(tmp_path / "seed-1", "seed=1", miou=None, numbers=77)
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, "parameters": 5678}))
    assert [row["parameters"] for row in run_table(find_runs([tmp_path]).runs)] == [5678, 77]
    (run / "checkpoints" / "last.ckpt").unlink()
    (unfinished / "checkpoints" / "last.ckpt").write_bytes(b"")
    assert [row["parameters"] for row in run_table(find_runs([tmp_path]).runs)] == [5678, None]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("regularization/experiment-camvid_max-steps-200-a0ee4302", "regularization"),
        ("decoder/a0ee4302", "decoder"),
        ("camvid_seg_t16_mask", "camvid_seg_t16_mask"),
        ("mine/deadbeef1", "mine/deadbeef1"),
        ("mine/second", "mine/second"),
    ],
)
def test_ablations_go_by_their_own_name(name: str, short: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "seed-0")
    for file in ("config.yaml", "results.json"):
        content = yaml.safe_load((run / file).read_text())
        (content if file == "config.yaml" else content["config"])["name"] = name
        (run / file).write_text(json.dumps(content))
    assert run_table(find_runs([tmp_path]).runs, ["name"]) == [{"name": short}]


def test_settings_tell_nothing_of_what_a_run_does_not_have(tmp_path: Path) -> None:
    """Decay and buffers belong to the average of weights, which one of the runs has."""
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", "callbacks=ema")
    settings = [row["settings"] for row in run_table(find_runs([tmp_path]).runs)]
    assert "decay" not in settings[0]
    assert "ema=EMAWeightAveraging decay=" in settings[1]
    assert "_target_" not in settings[1]


def test_anything_of_an_evaluation_can_be_a_column(tmp_path: Path) -> None:
    make_run(tmp_path / "seed-0", evaluations={"last/shapes-val-none": 0.375}, evaluation_speed=12.5)
    names = ["last/val-none", "last/val-none/speed/images_per_second", "last/val-none/object_sizes/medium/miou"]
    assert list(run_table(find_runs([tmp_path]).runs, names)[0].values()) == [0.375, 12.5, 0.125]


def test_an_unfinished_run_shows_how_far_it_came(tmp_path: Path) -> None:
    make_run(tmp_path / "seed-0", miou=None)
    (row,) = run_table(find_runs([tmp_path]).runs)
    assert (row["status"], row["steps"], row["miou"], row["best_miou"]) == ("unfinished", 30, 0.25, 0.25)
    assert row["pixel_accuracy"] is None


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    names = ["decoder", "decoder.depth", "trainer.max_steps", "val/loss", "val/classes/pole_sign", "best/step"]
    rows = run_table(made(tmp_path), names)
    assert rows[0] == dict(zip(names, ("linear", None, 300, 0.4, 0.1, 10), strict=True))
    assert rows[-1]["decoder.depth"] == 2
    with pytest.raises(ValueError, match="val/mIoU is no column: give name, settings"):
        run_table(made(tmp_path / "b"), ["val/mIoU"])


def test_settings_are_one_column_or_several(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "backbone.dropout=0.1", "decoder.dropout=0.2", "decoder=mask")
    make_run(tmp_path / "b", "backbone.dropout=0.0", "decoder.dropout=0.1", "decoder=mask")
    runs = find_runs([tmp_path]).runs
    assert run_table(runs)[0]["settings"] == "backbone.dropout=0.1 decoder.dropout=0.2"
    row = run_table(runs, spread_settings=True)[0]
    assert (row["backbone.dropout"], row["decoder.dropout"]) == (0.1, 0.2)
    assert "settings" not in row


def test_groups_are_means_and_deviations_over_seeds(tmp_path: Path) -> None:
    runs = made(tmp_path)
    make_run(tmp_path / "linear" / "seed-9", "decoder=linear", "seed=9", miou=None)
    make_run(tmp_path / "double", "decoder=linear", "seed=0", miou=0.5)
    table, remarks = group_table(find_runs([tmp_path]).runs, ["decoder"])
    assert remarks == []
    assert [(row["decoder"], row["runs"]) for row in table] == [("linear", 3), ("mask", 2)]
    for row, values in zip(table, ((0.5, 0.25, 0.625), (0.75, 0.5)), strict=True):
        assert row["miou"].mean == pytest.approx(np.mean(values), abs=1e-15)
        assert row["miou"].deviation == pytest.approx(np.std(values, ddof=1), abs=1e-15)
    assert group_table(runs, ["settings"])[0][0]["settings"] == "decoder=linear"
    mixed, remarks = group_table(runs, ["name"])
    assert mixed[0]["runs"] == 5
    assert remarks == ["name=shapes: the runs differ in decoder too"]


def test_what_is_no_number_is_not_averaged(tmp_path: Path) -> None:
    runs = made(tmp_path)
    with pytest.raises(ValueError, match="status holds no numbers to average"):
        group_table(runs, ["decoder"], ["status"])
    make_run(tmp_path / "only" / "seed-0", "tag=x", miou=None)
    with pytest.raises(ValueError, match="none of the runs is finished"):
        group_table(find_runs([tmp_path / "only"]).runs, ["name"])


def test_csv_keeps_every_digit() -> None:
    table = [{"name": 'a,"b"', "miou": Spread(1 / 3, 0.1)}, {"name": "c", "miou": Spread(2 / 3, None)}]
    rows = list(csv.DictReader(io.StringIO(csv_text(table))))
    assert rows[0] == {"name": 'a,"b"', "miou": repr(1 / 3), "miou_deviation": "0.1"}
    assert rows[1]["miou_deviation"] == ""


def test_markdown_cells_stay_cells() -> None:
    odd = "a|b *c* `d` _e_ best_miou <br> [f](g)\nh\\"
    lines = markdown_text([{"x": odd, "miou": 0.5}, {"x": None, "miou": 1}]).splitlines()
    assert lines[1] == "| :- | -: |"
    assert lines[2] == r"| a\|b \*c\* \`d\` \_e\_ best_miou \<br> \[f](g) h\\ | 0.5000 |"
    assert lines[3] == "| - | 1 |"
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)


def test_latex_shows_the_very_characters() -> None:
    text = latex_text([{"a_b": r"50% of $x & #1 {y} ~ ^ \z", "miou": Spread(0.5, 0.25)}])
    row = r"50\% of \$x \& \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z"
    assert rf"{row} & 0.5000 $\pm$ 0.2500 \\" in text.splitlines()
    assert r"a\_b & miou \\" in text.splitlines()
    assert r"\begin{tabular}{lr}" in text
    assert latex_text([{"m": "Seg-B†/16"}]).splitlines()[5] == r"Seg-B$\dagger$/16 \\"


def test_numbers_for_people() -> None:
    assert shown(0.12345) == "0.1235"
    assert shown(-0.0103, "miou_ss difference") == "-0.0103"
    assert shown(7123456, "parameters") == "7 123 456"
    assert shown(96.25, "images_per_second") == "96.2"
    assert shown(1e-5, "schedule.floor") == "1e-05"
    assert shown(None) == "-"
    assert shown(True) == "True"
