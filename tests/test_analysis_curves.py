"""Logs of three implementations, in the formats that these document, as one picture of curves."""

import itertools
import json
from pathlib import Path

import pytest

from segmenter_pl.analysis.curves import draw_curves, gather, series
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
        told = draw_curves(gather(places), tmp_path / "curves.png", y_key=key)
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
    assert curves.left_out == [f"{tmp_path / 'c'}: same settings and seed as {tmp_path / 'd'}"]


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
    path.write_text("root: logs\nlogs:\n  Seg-T: a/log.txt\n  Seg-S: b\nvmin: 0.2\nvmax: 0.6\nepochs: 2\n")
    curves = gather([path])
    assert (curves.low, curves.high) == (0.2, 0.6)
    assert {label: len(rows) for label, rows in curves.logs.items()} == {"Seg-T": 2, "Seg-S": 2}
    told = draw_curves(curves, tmp_path / "curves.svg", "epoch", "val_mean_iou")
    assert told == ["Seg-T: val/miou 0.3150 at epoch 0", "Seg-S: val/miou 0.3150 at epoch 0"]
    for text in ("logs: [a]", "- a", "logs: {a: b", "logs: {a: a}\nvmin: low"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"logs.yml cannot be read as a list of logs"):
            gather([path])


def test_a_missing_key_lists_what_there_is(tmp_path: Path) -> None:
    make_run(tmp_path / "seed-0")
    with pytest.raises(ValueError, match=r"shapes has no val/miou over epoch: it logged step, train/loss"):
        draw_curves(gather([tmp_path]), tmp_path / "curves.png", x_key="epoch")
    assert not (tmp_path / "curves.png").exists()


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
