"""Logs of three implementations, in the formats that these document, as one picture of curves."""

import itertools
import json
import re
from pathlib import Path

import pytest

from segmenter_pl.analysis.curves import Curves, gather
from segmenter_pl.analysis.curves_plot import draw_curves, series
from segmenter_pl.analysis.drawing import spread_out
from segmenter_pl.analysis.logs import read_log
from tests.made_runs import make_run


def lines(path: Path, *entries: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def official(path: Path) -> Path:
    """One object an epoch; validation every second one, in per cent with two digits."""
    rows = []
    for epoch in range(3):
        row = {"train_loss": 2.0 - epoch / 2, "train_learning_rate": 0.001, "epoch": epoch}
        if epoch % 2 == 0:
            row |= {"val_mean_iou": 31.5 + epoch, "val_pixel_accuracy": 75.25, "val_mean_accuracy": 40.0}
        rows.append(row | {"num_updates": 2527 * (epoch + 1)})
    return lines(path, *rows)


def mmseg0(path: Path) -> Path:
    """The environment, training rows with mode, and validations whose iter counts pictures; fractions."""
    train = [
        {"mode": "train", "epoch": 1, "iter": it, "lr": 0.01, "memory": 5, "decode.acc_seg": 40.0, "loss": loss}
        for it, loss in ((50, 3.0), (16000, 1.5))
    ]
    val = {
        "mode": "val",
        "epoch": 1,
        "iter": 250,
        "lr": 0.009,
        "aAcc": 0.75,
        "mIoU": 0.3425,
        "mAcc": 0.5,
        "IoU.wall": 0.7,
    }
    later = {"mode": "train", "epoch": 2, "iter": 32000, "lr": 0.005, "loss": 1.0}
    return lines(path, {"env_info": "Python", "seed": 0}, *train, val, later, {**val, "mIoU": 0.375, "epoch": 2})


def mmseg1(path: Path) -> Path:
    """Training rows with iter and step, validations with step; per cent."""
    train = {"lr": 0.01, "data_time": 0.1, "loss": 1.5, "decode.loss_ce": 1.5, "time": 0.3, "iter": 50, "step": 50}
    val = {"aAcc": 76.5, "mIoU": 37.5, "mAcc": 48.0, "data_time": 0.01, "time": 0.1, "step": 16000}
    return lines(path, train, {**train, "iter": 16000, "step": 16000}, val, {**val, "mIoU": 39.0, "step": 0})


def test_official_log(tmp_path: Path) -> None:
    rows = read_log(official(tmp_path / "log.txt"))
    assert series(rows, "step", "val/miou") == ([2527, 7581], [0.315, 0.335])
    assert series(rows, "epoch", "val/pixel_accuracy") == ([0, 2], [0.7525, 0.7525])
    assert series(rows, "epoch", "train/loss") == ([0, 1, 2], [2.0, 1.5, 1.0])


def test_mmseg_logs_before_and_since_version_1(tmp_path: Path) -> None:
    old = read_log(mmseg0(tmp_path / "20220105.log.json"))
    assert series(old, "step", "val/miou") == ([16000, 32000], [0.3425, 0.375])
    assert series(old, "epoch", "val/iou/wall") == ([1, 2], [0.7, 0.7])
    assert series(old, "step", "train/loss") == ([50, 16000, 32000], [3.0, 1.5, 1.0])
    new = read_log(mmseg1(tmp_path / "vis_data" / "scalars.json"))
    # The last validation of a training may be written with step 0.
    assert series(new, "step", "val/miou") == ([16000, 16000], [0.375, 0.39])
    assert new[2]["val/pixel_accuracy"] == 0.765


def test_nested_keys_are_joined_by_slashes(tmp_path: Path) -> None:
    rows = read_log(lines(tmp_path / "log.txt", {"train_loss": 1.0, "epoch": 0, "speed": {"gpu": {"mean": 2.5}}}))
    assert series(rows, "epoch", "speed/gpu/mean") == ([0], [2.5])


def test_a_cut_off_last_line_is_left_out_and_other_files_are_refused(tmp_path: Path) -> None:
    path = official(tmp_path / "log.txt")
    path.write_text(path.read_text() + '{"train_loss": 1.')
    assert len(read_log(path)) == 3
    path.write_text("epoch 1: loss 3.2\nepoch 2: loss 3.0\n")
    with pytest.raises(ValueError, match=r"log.txt, line 1: no JSON object"):
        read_log(path)
    lines(path, [1, 2])
    with pytest.raises(ValueError, match="no JSON object"):
        read_log(path)
    path.write_text("")
    with pytest.raises(ValueError, match="holds no row of numbers yet"):
        read_log(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_log(tmp_path / "none.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no log"):
        read_log(tmp_path / "empty")


def test_published_curves_stand_beside_ours(tmp_path: Path) -> None:
    """Whichever implementation's name of a key is asked for, and fractions everywhere."""
    make_run(tmp_path / "runs" / "seed-0", miou=0.5)
    (tmp_path / "seg_tiny").mkdir()
    places = [
        tmp_path / "runs",
        official(tmp_path / "seg_tiny" / "log.txt"),
        mmseg1(tmp_path / "w/1/vis_data/scalars.json"),
    ]
    for key in ("val/miou", "val_mean_iou", "mIoU"):
        told, lacking = draw_curves(gather(places), tmp_path / "curves.png", y_key=key)
        assert lacking == []
        assert told == [
            "shapes: val/miou 0.5000 at step 30",
            "seg_tiny: val/miou 0.3350 at step 7581",
            "1: val/miou 0.3900 at step 16000",
        ]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    named = gather([tmp_path / "seg_tiny", tmp_path / "w"], ["official", "theirs"])
    assert list(named.logs) == ["official", "theirs"]


def test_runs_of_a_folder_are_labelled_by_what_differs(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"a{seed}", "decoder=linear", f"seed={seed}")
    make_run(tmp_path / "b", "decoder=mask", miou=None)
    make_run(tmp_path / "c", "decoder=mask", "seed=1", miou=None)
    make_run(tmp_path / "d", "decoder=mask", "seed=1")
    curves = gather([tmp_path])
    assert list(curves.logs) == [
        "decoder=linear, seed 0",
        "decoder=linear, seed 1",
        "decoder=mask, seed 0, unfinished",
        "decoder=mask, seed 1",
    ]
    assert curves.left_out == [f"{tmp_path / 'c'}: duplicate, same settings and seed as {tmp_path / 'd'}"]


def test_what_is_no_curve_is_told(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    (make_run(tmp_path / "b", "seed=1") / "metrics.csv").unlink()
    (make_run(tmp_path / "c", "seed=2", miou=None) / "metrics.csv").unlink()
    (make_run(tmp_path / "d", "seed=3") / "config.yaml").write_text("a: [")
    (tmp_path / "d" / "results.json").unlink()
    (tmp_path / "notes.txt").touch()
    curves = gather([tmp_path])
    assert list(curves.logs) == ["shapes"]
    told = {Path(line.partition(": ")[0]).name: line.partition(": ")[2] for line in curves.left_out}
    assert told.pop("d").startswith("config.yaml cannot be read")
    assert told == {
        "b": "finished, and has no metrics.csv with rows",
        "c": "crashed, no progress",
        "notes.txt": "belongs to no run",
    }


def test_runs_of_several_names_are_labelled_by_name_and_what_differs_within(tmp_path: Path) -> None:
    """The hash, and what an ablation runs over, are left out."""
    for rate in (0.0, 0.1):
        make_run(tmp_path / str(rate), "name=sweep/max-steps-200-0123abcd", f"backbone.dropout={rate}")
    make_run(tmp_path / "y", "name=alone", "decoder=linear")
    assert list(gather([tmp_path]).logs) == ["sweep, dropout=0.0", "sweep, dropout=0.1", "alone"]


def test_runs_given_one_by_one_are_labelled_as_if_they_lay_together(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"x{seed}", "name=x", f"seed={seed}")
    make_run(tmp_path / "y", "name=y", "decoder=linear")
    log = official(tmp_path / "seg_tiny/log.txt")
    curves = gather([tmp_path / "x0", log, tmp_path / "y", tmp_path / "x1"])
    assert list(curves.logs) == ["x, seed 0", "seg_tiny", "y, seed 0", "x, seed 1"]


def test_a_note_beside_our_runs_is_no_log(tmp_path: Path) -> None:
    make_run(tmp_path / "seed-0")
    (tmp_path / "log.txt").write_text("nohup: ignoring input\n")
    assert list(gather([tmp_path]).logs) == ["shapes"]
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="there is no run in"):
        gather([tmp_path / "none"])


def test_logs_yml(tmp_path: Path) -> None:
    official(tmp_path / "logs" / "a" / "log.txt")
    official(tmp_path / "logs" / "b" / "log.txt")
    path = tmp_path / "logs.yml"
    path.write_text("root: logs\nlogs:\n  Seg-T: a/log.txt\n  Seg-S: b\nvmin: 30\nvmax: 50\nepochs: 2\n")
    curves = gather([path])
    assert (curves.low, curves.high) == (30, 50)
    assert {label: len(rows) for label, rows in curves.logs.items()} == {"Seg-T": 2, "Seg-S": 2}
    told, _ = draw_curves(curves, tmp_path / "curves.svg", "epoch", "val_mean_iou")
    assert told == ["Seg-T: val/miou 0.3150 at epoch 0", "Seg-S: val/miou 0.3150 at epoch 0"]
    for text in ("logs: [a]", "- a", "logs: {a: b", "logs: {a: a}\nvmin: low"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"logs.yml cannot be read as a list of logs"):
            gather([path])


def placed(path: Path) -> dict[str, tuple[float, float]]:
    """Every text of an SVG and where it begins, in points from the top left."""
    found = re.findall(r"<!-- (.*?) -->\s*<g[^>]*translate\(([\d.-]+) ([\d.-]+)\)", path.read_text(), re.DOTALL)
    return {text: (float(x), float(y)) for text, x, y in found}


def box(path: Path) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the axes: what all of its background covers."""
    outline = re.search(r'<g id="patch_2">\s*<path d="([^"]*)"', path.read_text())
    assert outline is not None
    numbers = [float(one) for one in re.findall(r"[\d.]+", outline[1])]
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def test_limits_of_logs_yml_are_per_cent_of_rates_only(tmp_path: Path) -> None:
    """As in the official code, whose values are per cent: 30 to 50 is the whole height of the axes."""
    official(tmp_path / "log.txt")
    path, out = tmp_path / "logs.yml", tmp_path / "curves.svg"
    path.write_text("logs: {a: log.txt}\nvmin: 30\nvmax: 50\n")
    draw_curves(gather([path]), out, "epoch", "val_mean_iou")
    texts, (_, top, _, bottom) = placed(out), box(out)
    marks = [text for text in texts if re.fullmatch(r"0\.\d{3}", text)]
    assert (marks[0], marks[-1]) == ("0.300", "0.500")
    assert texts["0.500"][1] - texts["0.300"][1] == pytest.approx(top - bottom, abs=0.5)
    path.write_text("logs: {a: log.txt}\nvmin: 0.5\nvmax: 2.5\n")
    draw_curves(gather([path]), out, "epoch", "train_loss")
    texts, (_, top, _, bottom) = placed(out), box(out)
    assert texts["2.50"][1] - texts["0.50"][1] == pytest.approx(top - bottom, abs=0.5)
    path.write_text("logs: {a: log.txt}\nvmin: 0.3\nvmax: 0.5\n")
    with pytest.raises(ValueError, match=r"no value of val/miou lies between .* which logs.yml gives in per cent"):
        draw_curves(gather([path]), out, "epoch", "val_mean_iou")


def test_a_missing_key_lists_what_there_is(tmp_path: Path) -> None:
    make_run(tmp_path / "seed-0")
    with pytest.raises(ValueError, match=r"shapes has no val/miou over epoch: logged was step, train/loss"):
        draw_curves(gather([tmp_path]), tmp_path / "curves.png", x_key="epoch")
    assert not (tmp_path / "curves.png").exists()


def test_a_run_that_has_just_begun_does_not_stand_in_the_way(tmp_path: Path) -> None:
    make_run(tmp_path / "seed-0")
    begun = make_run(tmp_path / "seed-1", "seed=1", miou=None)
    (begun / "metrics.csv").write_text("step,train/loss\n10,2.0\n")
    told, lacking = draw_curves(gather([tmp_path]), tmp_path / "curves.png")
    assert told == ["shapes, seed 0: val/miou 0.5000 at step 30"]
    assert lacking == ["shapes, seed 1, unfinished: has no val/miou over step"]
    told, lacking = draw_curves(gather([tmp_path]), tmp_path / "curves.png", y_key="train/loss")
    assert (len(told), lacking) == (2, [])
    with pytest.raises(ValueError, match="shapes, seed 0 has no val/iou/car over step, nor has any of 1 others"):
        draw_curves(gather([tmp_path]), tmp_path / "curves.png", y_key="val/iou/car")


LONG = "a_name_of_a_run_of_more_than_a_hundred_characters, " + " ".join(f"setting_{i}=0.{i}" for i in range(10))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 15, 23, 28])
def test_many_curves_with_long_names_stay_readable(count: int, tmp_path: Path) -> None:
    """The axes keep their size, no text leaves the picture, and each end value tells its curve."""
    logs = {f"{LONG} seed={i}": [{"step": 0, "y": 0.3}, {"step": 160_000, "y": 0.4 + i / 1e4}] for i in range(count)}
    out = tmp_path / "curves.svg"
    draw_curves(Curves(logs), out, y_key="y")
    left, top, right, bottom = box(out)
    assert right - left > 300
    assert bottom - top > 230
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', out.read_text())
    assert size is not None
    texts = placed(out)
    assert all(0 <= x < float(size[1]) and 0 < y < float(size[2]) for x, y in texts.values())
    ends = {text: place for text, place in texts.items() if re.fullmatch(r"(\d+: )?0\.4\d{3}", text)}
    numbered = count > 7
    assert list(ends) == [f"{i + 1}: " * numbered + f"{0.4 + i / 1e4:.4f}" for i in range(count)]
    heights = [y for _, y in ends.values()]
    assert heights == sorted(heights, reverse=True)
    assert all(a - b > 9 for a, b in itertools.pairwise(heights))  # of letters of 9 points
    assert (
        len([text for text in texts if text.startswith(tuple("123456789")) and LONG[:20] in text]) == numbered * count
    )
    assert {"100k", "160k"} <= set(texts)


def test_more_curves_than_can_be_told_apart_are_refused(tmp_path: Path) -> None:
    logs = {str(i): [{"step": 1.0, "y": 0.5}] for i in range(29)}
    with pytest.raises(ValueError, match=r"29 series cannot be told apart in one picture, 28 at most: give fewer runs"):
        draw_curves(Curves(logs), tmp_path / "curves.png", y_key="y")
    assert not list(tmp_path.iterdir())


def mmseg_start(path: Path, *steps: int) -> Path:
    """A log of one start of a training: the loss is the step / 1000, mIoU per cent the same."""
    return lines(
        path,
        *({"loss": step / 1000, "lr": 0.01, "iter": step, "step": step} for step in steps),
        {"mIoU": steps[-1] / 1000, "aAcc": 50.0, "step": steps[-1]},
    )


def test_starts_of_one_training_are_joined_by_their_steps(tmp_path: Path) -> None:
    mmseg_start(tmp_path / "20240101_000000/vis_data/scalars.json", 50, 100, 150, 200)
    mmseg_start(tmp_path / "20240102_000000/vis_data/scalars.json", 150, 200, 250)
    lines(tmp_path / "20240103_000000/vis_data/scalars.json")
    told: list[str] = []
    rows = read_log(tmp_path, told)
    assert series(rows, "step", "train/loss") == ([50, 100, 150, 200, 250], [0.05, 0.1, 0.15, 0.2, 0.25])
    assert series(rows, "step", "val/miou") == ([250], [0.0025])
    assert told == [f"{tmp_path}/20240103_000000/vis_data/scalars.json: holds no row of numbers"]
    mmseg_start(tmp_path / "20240104_000000/vis_data/scalars.json", 50, 100)
    curves = gather([tmp_path])
    (rows,) = curves.logs.values()
    assert series(rows, "step", "train/loss") == ([50, 100], [0.05, 0.1])
    begins = "20240104_000000/vis_data/scalars.json begins again, at step 50"
    for start in ("20240101_000000", "20240102_000000"):
        assert f"{tmp_path / start}/vis_data/scalars.json: {begins}" in curves.left_out


def test_a_training_of_mmseg_0_started_twice(tmp_path: Path) -> None:
    mmseg0(tmp_path / "20220105_151706.log.json")
    later = [{"mode": "train", "epoch": 2, "iter": it, "lr": 0.005, "loss": 0.5} for it in (31950, 48000)]
    val = {"mode": "val", "epoch": 2, "iter": 250, "lr": 0.004, "aAcc": 0.8, "mIoU": 0.4, "mAcc": 0.5}
    lines(tmp_path / "20220106_101010.log.json", {"env_info": "Python"}, *later, val)
    assert series(read_log(tmp_path), "step", "val/miou") == ([16000, 48000], [0.3425, 0.4])


def test_logs_of_another_kind_in_the_folder_are_told(tmp_path: Path) -> None:
    official(tmp_path / "log.txt")
    mmseg0(tmp_path / "20220105.log.json")
    told: list[str] = []
    assert len(read_log(tmp_path, told)) == 3
    assert told == [f"{tmp_path / '20220105.log.json'}: log.txt beside it counts"]


def test_labels_must_fit(tmp_path: Path) -> None:
    make_run(tmp_path / "seed-0")
    make_run(tmp_path / "seed-1", "seed=1")
    with pytest.raises(ValueError, match="--label was given 1 times for 2 curves: shapes, seed 0, shapes, seed 1"):
        gather([tmp_path], ["one"])
    with pytest.raises(ValueError, match="two curves have the same one"):
        gather([tmp_path], ["one", "one"])


def test_labels_at_the_ends_keep_their_distance_and_order() -> None:
    moved = spread_out([0.5, 0.51, 0.1, 0.49, 0.9], 0.05)
    ordered = sorted(moved)
    assert all(b - a >= 0.05 - 1e-12 for a, b in itertools.pairwise(ordered))
    assert (moved[2], moved[4]) == (0.1, 0.9)
    assert moved[3] < moved[0] < moved[1]
    assert sum(moved) == pytest.approx(0.5 + 0.51 + 0.1 + 0.49 + 0.9)


def test_labels_at_the_ends_stay_beside_the_axes() -> None:
    for positions in ([0.97, 0.98, 0.99], [0.0, 0.01, 0.02, 1.0], [0.99] * 15):
        moved = spread_out(positions, 0.05)
        assert all(-1e-12 <= one <= 1 + 1e-12 for one in moved)
        assert all(b - a >= 0.05 - 1e-12 for a, b in itertools.pairwise(sorted(moved)))
