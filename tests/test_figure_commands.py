"""`segmenter compare` and `segmenter gallery`: which files they write, what is in them, and what they refuse."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl import Predictor, load_segmenter
from segmenter_pl.analysis import figure
from segmenter_pl.analysis.difference_maps import Agreement, Outcome, agreements, outcomes, painted
from segmenter_pl.analysis.figure_sheet import Cell
from segmenter_pl.cli import app
from segmenter_pl.commands.galleries import told_apart
from segmenter_pl.commands.labelled import find_picture
from segmenter_pl.data.folder import FolderDataModule
from segmenter_pl.data.shapes import CLASSES, ShapesDataset
from segmenter_pl.factory import segmenter_from_config
from segmenter_pl.metrics import SegmentationMetrics
from segmenter_pl.visualize import default_palette, overlay
from tests.test_check_command import CLASSES as DRAWN
from tests.test_check_command import IGNORED, make
from tests.test_predict_command import names, pixels, save
from tests.test_predictor import CONFIG
from tests.test_train import configured

SIDE = 128  # of the shapes, so that sheets show them pixel by pixel


def save_checkpoint(path: Path, classes: tuple[str, ...] | None, dataset: dict[str, Any], seed: int = 0) -> Path:
    """An untrained model whose enlarged weights make its labels vary."""
    torch.manual_seed(seed)
    view = {key: dataset.get(key, 128) for key in ("window", "stride")} | {"short_side": None}
    config = {**CONFIG, "dataset": {**dataset, **view}}
    count = len(classes or CLASSES)
    model = segmenter_from_config(config, num_classes=count)
    state = {f"model.{key}": 6 * value if "head" in key else value for key, value in model.state_dict().items()}
    about = {"config": config, "classes": classes and list(classes), "palette": None, "ignore_index": 255}
    torch.save({"segmenter": {**about, "num_classes": count}, "state_dict": state}, path)
    return path


def settings(*words: str) -> dict[str, Any]:
    dataset = configured("train", *words).dataset
    return {str(key): value if isinstance(value, (int, float, str, bool)) else None for key, value in dataset.items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, shapes = tmp_path_factory.mktemp("models"), settings("dataset=shapes") | {"scale": [0.5, 2.0]}
    return {
        "one": save_checkpoint(folder / "one.ckpt", CLASSES.names, shapes),
        "two": save_checkpoint(folder / "two.ckpt", CLASSES.names, shapes, seed=1),
        "nameless": save_checkpoint(folder / "nameless.ckpt", None, {}, seed=2),
        "others": save_checkpoint(folder / "others.ckpt", (*CLASSES.names[:2], "box", *CLASSES.names[3:]), shapes),
        "fewer": save_checkpoint(folder / "fewer.ckpt", CLASSES.names[:3], shapes),
    }


def run(command: str, *words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [command, *map(str, words), "--device", "cpu"], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def predicted(path: Path, picture: np.ndarray) -> np.ndarray:
    return Predictor(load_segmenter(path), device="cpu").segment(picture)


def miou(labels: np.ndarray, truth: np.ndarray) -> float:
    metrics = SegmentationMetrics(len(CLASSES))
    metrics.update(torch.from_numpy(labels).long(), torch.from_numpy(truth).long())
    return float(metrics.compute()["miou"])


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[list[Cell | None]], Any, str]]:
    """Headings, rows, keys and title of every sheet that is drawn."""
    drawn, seen = figure.figure, []

    def spied(headings: Any, rows: Any, keys: Any, side: int, title: str) -> np.ndarray:
        seen.append((list(headings), [list(row) for row in rows], keys, title))
        return drawn(headings, rows, keys, side, title)

    monkeypatch.setattr(figure, "figure", spied)
    return seen


def cell(page: np.ndarray, row: int, column: int) -> np.ndarray:
    """The picture at a place of a sheet of shapes without a title."""
    height = SIDE + 16 + 5  # caption and gap, for letters of 11 pixels
    y, x = 5 + 16 + row * height + 16, 5 + column * (SIDE + 5)
    return page[y : y + SIDE, x : x + SIDE]


# compare


def test_pictures_of_a_dataset_beside_their_truth(models: dict[str, Path], tmp_path: Path, sheets: list[Any]) -> None:
    out = tmp_path / "new/out.png"
    words = ("val_007", "val_003", "val_007", "-m", f"A={models['one']}", "-m", f"B={models['two']}")
    code, said, told = run(
        "compare", *words, "--dataset", "training", "--difference", "-o", out, "--size", SIDE, "--alpha", 0.4
    )
    assert (code, said, told) == (0, f"2 pictures by 2 models → {out}\n", "")
    page = pixels(out)
    ((headings, rows, _, title),) = sheets
    assert (headings, title, len(rows)) == (["Picture", "Truth", "A", "B"], "", 4)
    for row, index in ((0, 7), (2, 3)):
        image, truth = ShapesDataset("val").read(index)
        np.testing.assert_array_equal(cell(page, row, 0), image)
        np.testing.assert_array_equal(cell(page, row, 1), overlay(image, truth, CLASSES.palette, 0.4))
        assert rows[row][0].caption == f"val_{index:03d}"
        for column, name in ((2, "one"), (3, "two")):
            labels = predicted(models[name], image)
            np.testing.assert_array_equal(cell(page, row, column), overlay(image, labels, CLASSES.palette, 0.4))
            assert rows[row][column].caption == f"mIoU {miou(labels, truth):.3f}"
            wrong = painted(image, outcomes(labels, truth, 255), Outcome)
            np.testing.assert_array_equal(cell(page, row + 1, column), wrong)
            share = 100 * (labels != truth).mean()
            assert rows[row + 1][column].caption == f"{share:.1f} % of the pixels are wrong"
        assert rows[row + 1][:2] == [None, None]


def test_files_without_a_truth(models: dict[str, Path], tmp_path: Path, sheets: list[Any]) -> None:
    """A folder, pictures of any size, a model that does not know its classes' names; what differs from the first."""
    photos = [save(tmp_path / f"in/{i}.png", seed=i) for i in range(2)]
    Image.fromarray(pixels(photos[1]).transpose(1, 0, 2)).save(photos[1])
    out = tmp_path / "out.png"
    words = ("-m", f"first={models['nameless']}", "-m", f"second={models['two']}")
    assert run("compare", tmp_path / "in", *words, "-o", out, "--size", 140, "--difference")[0] == 0
    ((headings, rows, keys, _),) = sheets
    assert headings == ["Picture", "first", "second"]
    assert [row[0] and row[0].picture.shape for row in rows] == [(90, 140, 3), None, (140, 90, 3), None]
    assert [row[1] and row[1].caption for row in rows] == ["", None, "", None]
    for row, photo in ((1, photos[0]), (3, photos[1])):
        image = pixels(photo)
        labels = [predicted(models[name], image) for name in ("nameless", "two")]
        assert rows[row][2].caption == f"{100 * (labels[0] != labels[1]).mean():.1f} % differ from first"
        expected = painted(image, agreements(*labels), Agreement).repeat(2, 0).repeat(2, 1)
        np.testing.assert_array_equal(rows[row][2].picture, expected)
    known = {text: color for key in keys for text, color in key}
    ids = [k for k, name in enumerate(CLASSES.names) if name in known]
    assert len(ids) > 1
    assert known == {
        **{CLASSES.names[k]: default_palette(len(CLASSES))[k] for k in ids},
        **{kind.text: kind.color for kind in Agreement},
    }


def test_jpegs_and_a_single_model(models: dict[str, Path], tmp_path: Path) -> None:
    photo, out = save(tmp_path / "photo.png"), tmp_path / "out.jpg"
    assert run("compare", photo, "-m", f"A={models['one']}", "-o", out)[1] == f"1 picture by 1 model → {out}\n"
    with Image.open(out) as picture:
        assert picture.format == "JPEG"


REFUSED = {
    "PHOTO -m {one} -o OUT.png": "--model .*one.ckpt: give LABEL=CKPT, e.g. Seg-B/16=.*one.ckpt",
    "PHOTO -m A={one} -m A={two} -o OUT.png": "there is a model A already",
    "PHOTO -m A={one} -o OUT.gif": "OUT.gif: give the name of a picture, ending in .png, .jpg, .jpeg",
    "PHOTO -m A={one} -o .": "--out .: give the name of a picture",
    "PHOTO -m A={one} -o OUT.png --difference": "--difference needs a truth",
    "PHOTO -m A={one} -o OUT.png --root x": "--root and --set are of a dataset with a truth: give --dataset too",
    "PHOTO -m A={one} -o OUT.png --short-side x": "--short-side x: give a number",
    "missing.png -m A={one} -o OUT.png": "missing.png: does not exist",
    "PHOTO -m A={one} -o PHOTO": "--out photo.png would replace an INPUT: give another name",
    "DAMAGED -m A={one} -o OUT.png": "damaged.png is no picture",
    "film.mp4 -m A={one} -o OUT.png": "film.mp4 is a video: give pictures",
    "PHOTO -m A={one} -m B={others} -o OUT.png": "B has other classes than A: class 2 is 'box' and not 'square'",
    "PHOTO -m A={nameless} -m B={one} -m C={others} -o OUT.png": "C has other classes than B: class 2 is 'box'",
    "PHOTO -m A={one} -m B={fewer} -o OUT.png": "B has 3 classes and A has 6",
    "val_000 -m A={others} -o OUT.png --dataset shapes": "A has other classes than dataset shapes: class 2 is 'box'",
    "val_00 -m A={one} -o OUT.png --dataset shapes": "val_00 is no picture of the dataset, which has 64: .* e.g. val_0",
    "val_000 -m A={nameless} -o OUT.png --dataset training": "nameless.ckpt tells no dataset: give --dataset NAME",
    "val_000 -m A={one} -o OUT.png --dataset training --set dataset.crop=64": "--set dataset.crop=64 goes with",
    "val_000 -m A={one} -o OUT.png --dataset shapes --split test": "split='test': the shapes have the splits",
    "val_000 -m A={one} -o OUT.png --dataset none": "none is neither a folder nor a dataset",
    "val_000 val_001 val_002 -m A={one} -o OUT.png --dataset shapes --size 20000": "are too many",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_told(
    words: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save("photo.png")
    Path("damaged.png").write_bytes(b"no picture")
    Path("film.mp4").touch()
    line = words.replace("PHOTO", "photo.png").replace("DAMAGED", "damaged.png").format(**models)
    done = CliRunner().invoke(app, ["compare", *line.split(), "--device", "cpu"])
    assert done.exit_code == 1
    assert re.search(REFUSED[words], done.stderr), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "damaged.png", "film.mp4"}


def test_a_picture_is_found_by_name_file_and_last_part(tmp_path: Path) -> None:
    root = make(tmp_path / "data", ["a"], ["x/one", "x/two", "y/one", "z"])
    module = FolderDataModule(root, ignore_value=IGNORED, batch_size=1, crop=32)
    pictures = module.dataset("val")
    assert [pictures.name(index) for index in range(4)] == ["x/one", "x/two", "y/one", "z"]
    assert [find_picture(word, pictures) for word in ("y/one", "two", "z")] == [2, 1, 3]
    assert find_picture(str(root / "images/val/../val/x/two.jpg"), pictures) == 1
    with pytest.raises(ValueError, match=r"one is the name of 2 pictures: give one, e\.g\. x/one"):
        find_picture("one", pictures)
    with pytest.raises(ValueError, match="is no picture of the dataset, which has 4"):
        find_picture(str(root / "images/train/a.jpg"), pictures)


# gallery


@pytest.fixture(scope="module")
def judged(models: dict[str, Path]) -> list[dict[str, Any]]:
    """Brute force: of each picture the labels by both models and their mIoU."""
    pictures = ShapesDataset("val")
    predictors = [Predictor(load_segmenter(models[name]), device="cpu") for name in ("one", "two")]
    rows = []
    for index in range(len(pictures)):
        image, truth = pictures.read(index)
        labels = [predictor.segment(image) for predictor in predictors]
        scores = [miou(one, truth) for one in labels]
        rows.append({"name": pictures.name(index), "truth": truth, "labels": labels, "mious": scores})
    return rows


def test_a_gallery_of_two_models(
    models: dict[str, Path], judged: list[dict[str, Any]], tmp_path: Path, sheets: list[Any]
) -> None:
    out = tmp_path / "new/out"
    words = (models["one"], "-o", out, "--against", models["two"], "--count", 3, "--size", 64)
    code, said, told = run("gallery", *words)
    truth = np.stack([one["truth"] for one in judged])
    both = [miou(np.stack([one["labels"][i] for one in judged]), truth) for i in (0, 1)]
    count = len(names(out)) - 1
    assert (code, told) == (0, "")
    assert said == f"64 pictures of shapes, split val, mIoU {both[0]:.4f}, {both[1]:.4f}, {count} sheets → {out}\n"
    kinds = {f"classes/{k}_{name}.jpg" for k, name in enumerate(CLASSES.names)}
    assert names(out) == {"pictures.csv", "best.jpg", "worst.jpg", *kinds, "against_better.jpg", "against_worse.jpg"}
    with (out / "pictures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [one["name"] for one in judged]
    for row, one in zip(rows, judged, strict=True):
        assert float(row["miou"]) == pytest.approx(one["mious"][0], abs=1e-12)
        assert float(row["gain"]) == pytest.approx(one["mious"][1] - one["mious"][0], abs=1e-12)
    by_title = {title.partition(",")[0]: (headings, rows) for headings, rows, _, title in sheets}
    order = sorted(judged, key=lambda one: one["mious"][0])
    for key, chosen in (
        ("The worst of 64 pictures of shapes", order),
        ("The best of 64 pictures of shapes", order[::-1]),
    ):
        captions = [(row[0].caption, row[2].caption) for row in by_title[key][1]]
        assert captions == [(one["name"], f"mIoU {one['mious'][0]:.3f}") for one in chosen[:3]]
    gains = sorted(judged, key=lambda one: one["mious"][0] - one["mious"][1])
    headings, rows = by_title["Where the second model is better than the first by the most"]
    assert headings == ["Picture", "Truth", "1: one.ckpt", "2: two.ckpt", "Difference"]
    assert [row[0].caption for row in rows] == [one["name"] for one in gains[:3]]
    first, second = ((labels == gains[0]["truth"]) for labels in gains[0]["labels"])
    won, lost = 100 * (second & ~first).mean(), 100 * (first & ~second).mean()
    assert rows[0][4].caption == f"{won:.1f} % of the pixels won, {lost:.1f} % lost"


def test_sheets_of_chosen_classes(models: dict[str, Path], judged: list[dict[str, Any]], tmp_path: Path) -> None:
    words = ("--class", "circle", "--class", 5, "--class", "1", "--fraction", 0.25, "--dataset", "shapes")
    code, said, _ = run("gallery", models["one"], "-o", tmp_path / "out", *words, "--size", 64)
    assert (code, said.startswith("16 pictures of shapes, split val, mIoU ")) == (0, True)
    assert names(tmp_path / "out/classes") == {"1_circle.jpg", "5_cross.jpg"}


def test_a_folder_with_a_damaged_picture(models: dict[str, Path], tmp_path: Path, sheets: list[Any]) -> None:
    """Settings of the dataset are given anew; what has no label is told apart."""
    root = make(tmp_path / "data", ["a"], ["p", "q", "r"])
    (root / "images/val/q.jpg").write_bytes(b"no picture")
    model = save_checkpoint(tmp_path / "best.ckpt", DRAWN, {})
    out = tmp_path / "out"
    words = ("-o", out, "--dataset", root, "--set", f"dataset.ignore_value={IGNORED}")
    code, said, told = run("gallery", model, *words, "--count", 1)
    assert (code, said.startswith("2 pictures of data, split val, mIoU ")) == (1, True)
    assert re.search(r"Left out \(1\):\n  \S+q\.jpg cannot be read", told)
    ((_, rows, *_), *_) = sheets
    assert len(rows) == 1
    (root / "labels/val/r.png").unlink()
    assert "files without a label" in run("gallery", model, *words)[2]


def test_settings_of_the_training_are_taken_up(tmp_path: Path) -> None:
    """`--root` says where the pictures lie now."""
    root = make(tmp_path / "data", ["a"], ["p"])
    stored = {"_target_": "segmenter_pl.data.folder.FolderDataModule", "name": "mine", "root": "gone"}
    stored |= {"ignore_value": IGNORED, "batch_size": 1, "crop": 32}
    model = save_checkpoint(tmp_path / "best.ckpt", DRAWN, stored)
    assert "dataset.root=gone is not a folder" in run("gallery", model, "-o", tmp_path / "out")[2]
    code, said, _ = run("gallery", model, "-o", tmp_path / "out", "--root", root, "--count", 1)
    assert (code, said.startswith("1 picture of mine, split val")) == (0, True)


REFUSED_GALLERIES = {
    "{one} -o FILE": "--out FILE is a file: give a folder",
    "{one} -o out --fraction 0": "--fraction 0.0: give a number above 0 and up to 1",
    "{one} -o out --class ship": "--class 'ship': there is no such class: give background, circle",
    "{one} -o out --against {fewer}": "fewer.ckpt has 3 classes and dataset shapes, split val has 6",
    "{others} -o out --dataset shapes": "has other classes than dataset shapes, split val: class 2 is 'box'",
    "{nameless} -o out": "nameless.ckpt tells no dataset: give --dataset NAME",
    "{one} -o out --count 60 --size 4000": "60 rows of 5 pictures of 4000 pixels are too many for one sheet",
    "missing.ckpt -o out": "missing.ckpt does not exist",
}


@pytest.mark.parametrize("words", REFUSED_GALLERIES)
def test_what_does_not_fit_a_gallery_is_told(
    words: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    done = CliRunner().invoke(app, ["gallery", *words.format(**models).split(), "--device", "cpu"])
    assert done.exit_code == 1
    assert re.search(REFUSED_GALLERIES[words], done.stderr), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"FILE"}


def test_a_split_without_labels_is_told(models: dict[str, Path], tmp_path: Path) -> None:
    root = make(tmp_path / "data", ["a"], ["p"])
    save(root / "images/more/p.png")
    model = save_checkpoint(tmp_path / "best.ckpt", DRAWN, {})
    words = ("--dataset", root, "--set", f"dataset.ignore_value={IGNORED}", "--split", "more")
    assert "--split more of data has no labels" in run("gallery", model, "-o", tmp_path / "out", *words)[2]


@pytest.mark.parametrize("command", ["compare", "gallery"])
def test_an_interruption_is_told(
    command: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "segment", stopped)
    out = tmp_path / ("out.png" if command == "compare" else "out")
    words = ("val_000", "-m", f"A={models['one']}") if command == "compare" else (models["one"],)
    code, said, _ = run(command, *words, "-o", out, "--dataset", "shapes")
    assert (code, said.startswith("Stopped: ")) == (130, True)
    assert not out.exists()


def test_checkpoints_are_told_apart_by_what_differs() -> None:
    first, second = Path("/runs/a/97/seed-0/best.ckpt"), Path("/runs/b/1b/seed-0/best.ckpt")
    assert told_apart(first, second) == ("1: a/97", "2: b/1b")
    assert told_apart(first, first) == ("1: best.ckpt", "2: best.ckpt")
    assert told_apart(Path("/a.ckpt"), Path("/x/b.ckpt")) == ("1: a.ckpt", "2: x/b.ckpt")
