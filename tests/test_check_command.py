"""`segmenter check`: every damage is found by its file, nothing else is, and the numbers are right."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl.checking.plots import class_bars, percent
from segmenter_pl.cli import app
from segmenter_pl.data.classes import distinct_colors
from tests import layouts

CLASSES = ("sky", "road", "tree", "car")
IGNORED = 9
SIZE = (96, 144)


def check(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["check", *map(str, words)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def problems(report: dict[str, Any], root: Path) -> set[tuple[str, str]]:
    """(kind, file below the root without its first folder's name)"""
    return {(one["kind"], Path(one["file"]).relative_to(root).as_posix()) for one in report["problems"]}


def draw(root: Path, split: str, name: str, rng: np.random.Generator) -> None:
    """A JPEG of noise that is smooth, and labels of all classes and ignored pixels."""
    picture = layouts.picture(rng, SIZE).astype(int) + rng.integers(-20, 21, (*SIZE, 3))
    path = root / "images" / split / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, quality=92)
    layouts.save(root / "labels" / split / f"{name}.png", layouts.blocks(rng, SIZE, [*range(len(CLASSES)), IGNORED]))


def make(root: Path, train: list[str], val: list[str]) -> Path:
    rng = np.random.default_rng(0)
    for split, names in (("train", train), ("val", val)):
        for name in names:
            draw(root, split, name, rng)
    rows = [f"{k},{name}" for k, name in enumerate(CLASSES)]
    (root / "classes.csv").write_text("\n".join(["id,name", *rows]) + "\n")
    return root


def labels(root: Path, split: str) -> list[np.ndarray]:
    return [np.array(Image.open(path)) for path in sorted((root / "labels" / split).glob("*.png"))]


Damage = Callable[[Path, Path], None]
DAMAGES: dict[str, tuple[set[str], Damage]] = {}  # name of the pair → problems as "kind: picture|label", what is done


def damage(*found: str) -> Callable[[Damage], Damage]:
    def known(function: Damage) -> Damage:
        DAMAGES[function.__name__] = (set(found), function)
        return function

    return known


def alter(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def zeroed(data: bytes, start: float, end: float) -> bytes:
    first, last = int(len(data) * start), int(len(data) * end)
    return data[:first] + bytes(last - first) + data[last:]


@damage("no label: picture")
def label_is_gone(picture: Path, label: Path) -> None:
    label.unlink()


@damage("no picture: label")
def picture_is_gone(picture: Path, label: Path) -> None:
    picture.unlink()


@damage("unreadable picture: picture")
def jpeg_is_cut_short(picture: Path, label: Path) -> None:
    alter(picture, lambda data: data[: len(data) // 2])


@damage("unreadable picture: picture")
def jpeg_lacks_its_last_bytes(picture: Path, label: Path) -> None:
    alter(picture, lambda data: data[:-40])


@damage("unreadable picture: picture")
def jpeg_ends_in_zeros(picture: Path, label: Path) -> None:
    alter(picture, lambda data: zeroed(data, 0.5, 1) + bytes(50_000))


@damage("unreadable picture: picture")
def jpeg_has_a_hole(picture: Path, label: Path) -> None:
    alter(picture, lambda data: zeroed(data, 0.4, 0.6))


@damage("unreadable picture: picture")
def picture_is_empty(picture: Path, label: Path) -> None:
    picture.write_bytes(b"")


@damage("unreadable picture: picture")
def picture_is_a_broken_link(picture: Path, label: Path) -> None:
    picture.unlink()
    picture.symlink_to(picture.with_name("nowhere.jpg"))


@damage("unreadable picture: tif")
def picture_has_four_bands(picture: Path, label: Path) -> None:
    with Image.open(picture) as file:
        bands = np.dstack([np.array(file), np.array(file)[..., :1]])
    picture.unlink()
    Image.fromarray(bands, "CMYK").save(picture.with_suffix(".tif"))


@damage("unreadable picture: picture")
def picture_is_text(picture: Path, label: Path) -> None:
    picture.write_text("<html>404 Not Found</html>")


@damage("unreadable picture: png")
def png_is_damaged(picture: Path, label: Path) -> None:
    png = picture.with_suffix(".png")
    Image.open(picture).save(png)
    picture.unlink()
    alter(png, lambda data: zeroed(data, 0.5, 0.501))


@damage("unreadable picture: bmp")
def bmp_is_cut_short(picture: Path, label: Path) -> None:
    bmp = picture.with_suffix(".bmp")
    Image.open(picture).save(bmp)
    picture.unlink()
    alter(bmp, lambda data: data[:-5000])


@damage("unreadable label: label")
def label_is_empty(picture: Path, label: Path) -> None:
    label.write_bytes(b"")


@damage("unreadable label: label")
def label_is_cut_short(picture: Path, label: Path) -> None:
    alter(label, lambda data: data[: len(data) // 2])


@damage("unreadable label: label")
def label_has_a_wrong_check_sum(picture: Path, label: Path) -> None:
    """In a palette, for which the pixels are read none the less."""
    label_picture = Image.open(label)
    label_picture.putpalette(list(range(30)))
    label_picture.save(label)
    at = label.read_bytes().index(b"PLTE") + 6
    alter(label, lambda data: data[:at] + b"\x77" + data[at + 1 :])


@damage("size: label")
def label_is_smaller(picture: Path, label: Path) -> None:
    layouts.save(label, np.array(Image.open(label))[:-1])


@damage("size: label")
def picture_is_turned_by_its_tag(picture: Path, label: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.open(picture).save(picture, exif=tags)


@damage("unknown value: label")
def label_has_a_strange_value(picture: Path, label: Path) -> None:
    array = np.array(Image.open(label))
    array[:2, :5] = 77
    layouts.save(label, array)


@damage("nothing labelled: label")
def all_is_ignored(picture: Path, label: Path) -> None:
    layouts.save(label, np.full(SIZE, IGNORED, np.uint8))


@damage("colour label: label")
def label_is_in_colour(picture: Path, label: Path) -> None:
    Image.open(label).convert("RGB").save(label)


@damage("lossy label: label")
def label_is_a_jpeg(picture: Path, label: Path) -> None:
    Image.fromarray(np.full(SIZE, 2, np.uint8)).save(label, format="JPEG")


@damage("shared name: png")
def two_pictures_of_one_name(picture: Path, label: Path) -> None:
    Image.open(picture).save(picture.with_suffix(".png"))


@damage("duplicate: val")
def copy_in_val_in_another_format(picture: Path, label: Path) -> None:
    root = picture.parents[2]
    Image.open(picture).save(root / "images" / "val" / "copied.png")
    layouts.save(root / "labels" / "val" / "copied.png", np.array(Image.open(label)))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training pair for each damage, and three sound ones; a sound one is there twice."""
    root = make(tmp_path_factory.mktemp("damaged"), [*DAMAGES, "sound", "good", "well"], ["a", "b", "c"])
    for name, (_, function) in DAMAGES.items():
        function(root / "images" / "train" / f"{name}.jpg", root / "labels" / "train" / f"{name}.png")
    for side, suffix in (("images", ".jpg"), ("labels", ".png")):
        (root / side / "train" / f"sound_again{suffix}").write_bytes(
            (root / side / "train" / f"sound{suffix}").read_bytes()
        )
    return root


def test_every_damage_is_found_and_nothing_else(damaged: Path, tmp_path: Path) -> None:
    code, said, told = check(damaged, f"dataset.ignore_value={IGNORED}", "-o", tmp_path, "--workers", 2)
    assert (code, told) == (1, "")
    expected = set()
    for name, (found, _) in DAMAGES.items():
        for kind, where in (one.split(": ") for one in found):
            files = {
                "picture": f"images/train/{name}.jpg",
                "label": f"labels/train/{name}.png",
                "val": "images/val/copied.png",
            }
            expected.add((kind, files.get(where, f"images/train/{name}.{where}")))
    report = read(tmp_path)
    assert problems(report, damaged) == expected
    assert len(report["problems"]) == len(expected) == len(DAMAGES)
    assert report["sound"] is False
    assert [(note["kind"], Path(note["file"]).name) for note in report["notes"]] == [("repeated", "sound_again.jpg")]
    for _, file in expected:
        assert str(damaged / file) in said
    assert report["splits"]["train"]["unknown_values"] == {"77": {"labels": 1, "pixels": 10}}
    assert "77 (labels: 1, pixels: 10)" in said
    assert said.splitlines()[-1].startswith(f"{damaged.name}: {len(DAMAGES)} problems in ")
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "classes.csv", "classes.png"}


def test_the_histogram_and_the_sizes_are_those_of_brute_force(tmp_path: Path) -> None:
    root, out = make(tmp_path / "data", list("abcdefg"), list("xyz")), tmp_path / "out"
    Image.open(root / "images/train/a.jpg").convert("L").resize((60, 50)).save(root / "images/train/a.jpg")
    layouts.save(root / "labels/train/a.png", np.full((50, 60), 3, np.uint8))
    for split, array in (("train", labels(root, "train")), ("val", labels(root, "val"))):  # no car in val's labels
        if split == "val":
            for path, one in zip(sorted((root / "labels/val").glob("*.png")), array, strict=True):
                layouts.save(path, np.where(one == 3, 0, one).astype(np.uint8))
    code, said, told = check(root, f"dataset.ignore_value={IGNORED}", "-o", out)
    assert (code, told) == (0, "")
    report = read(out)
    rows = list(csv.DictReader(io.StringIO((out / "classes.csv").read_text())))
    for split, number in (("train", 7), ("val", 3)):
        arrays, found = labels(root, split), report["splits"][split]
        assert (found["pictures"], found["labels"], found["pairs"]) == (number, number, number)
        total = sum(int((array != IGNORED).sum()) for array in arrays)
        for k, name in enumerate(CLASSES):
            pixels = sum(int((array == k).sum()) for array in arrays)
            holding = sum(bool((array == k).any()) for array in arrays)
            expected = {"id": k, "name": name, "pixels": pixels, "share": pixels / total, "pictures": holding}
            assert found["classes"][k] == pytest.approx(expected)
            assert rows[k]["name"] == name
            cells = [float(rows[k][f"{split}_{column}"]) for column in ("pixels", "share", "pictures")]
            assert cells == pytest.approx([pixels, pixels / total, holding])
        ignored = sum(int((array == IGNORED).sum()) for array in arrays)
        assert found["ignored_pixels"] == ignored == int(rows[-1][f"{split}_pixels"])
        assert found["ignored_share"] == pytest.approx(ignored / sum(array.size for array in arrays))
    train = report["splits"]["train"]
    assert train["sizes"] == [
        {"width": 144, "height": 96, "pictures": 6},
        {"width": 60, "height": 50, "pictures": 1},
    ]
    assert train["extents"]["width"] == {"min": 60, "median": 144, "max": 144}
    assert train["extents"]["megapixels"] == pytest.approx({"min": 0.003, "median": 0.013824, "max": 0.013824})
    assert train["kinds"] == {"RGB": 6, "L": 1}
    assert [(note["kind"], note["text"]) for note in report["notes"]] == [("picture kind", "1 of mode L")]
    assert f"{train['pixels']:,}" in said
    assert said.splitlines()[-1] == f"data: no problem in 10 pairs of train, val → {out}"


def test_a_report_is_not_replaced_by_that_of_another_folder_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for home in ("a", "b"):
        make(tmp_path / home / "pictures", ["one"], ["two"])
    settings = (f"dataset.ignore_value={IGNORED}", "--workers", 1)
    assert check("a/pictures", *settings)[0] == 0
    assert check("a/pictures", *settings)[0] == 0  # its own report may be renewed
    before = (tmp_path / "check/pictures/report.json").read_bytes()
    code, _, told = check("b/pictures", *settings)
    assert code == 1
    assert f"check/pictures holds the report of {tmp_path / 'a/pictures'}: give --out another folder" in told
    assert (tmp_path / "check/pictures/report.json").read_bytes() == before
    assert check("b/pictures", *settings, "--out", "check/b")[0] == 0


def test_a_class_that_only_val_holds_and_equal_colours_are_notes(tmp_path: Path) -> None:
    root = make(tmp_path / "data", ["a"], ["x"])
    layouts.save(root / "labels/train/a.png", np.zeros(SIZE, np.uint8))
    layouts.save(root / "labels/val/x.png", np.ones(SIZE, np.uint8))
    (root / "classes.csv").write_text("id,name,R,G,B\n0,sky,9,9,9\n1,road,8,8,8\n2,tree,9,9,9\n")
    code, said, _ = check(root, "-o", tmp_path / "out")
    assert code == 0
    texts = {(note["kind"], note["text"]) for note in read(tmp_path / "out")["notes"]}
    assert texts == {
        ("never in train", "road, but val does"),
        ("never in train", "tree"),
        ("colours", "(9, 9, 9) stands for sky, tree"),
    }
    assert "road, but val does" in said


def test_a_folder_that_is_missing_and_an_empty_one_are_problems(tmp_path: Path) -> None:
    root = make(tmp_path / "data", ["a"], [])
    code, said, _ = check(root, f"dataset.ignore_value={IGNORED}", "-o", tmp_path / "out", "--split", "extra")
    assert code == 1
    found = [(one["kind"], one["split"]) for one in read(tmp_path / "out")["problems"]]
    assert found == [("split", "val"), ("split", "extra")]
    assert "images/val is not a folder" in said
    (root / "images/val").mkdir()
    (root / "labels/val").mkdir()
    assert check(root, f"dataset.ignore_value={IGNORED}", "-o", tmp_path / "out")[0] == 1
    (one,) = read(tmp_path / "out")["problems"]
    assert (one["kind"], one["split"]) == ("split", "val")


def test_a_split_without_labels_has_its_pictures_read(tmp_path: Path) -> None:
    root = make(tmp_path / "data", ["a"], ["b"])
    draw(root, "test", "c", np.random.default_rng(5))
    for path in (root / "labels/test/c.png", root / "labels/test"):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "images/test/d.jpg").write_bytes(b"no picture")
    words = (root, f"dataset.ignore_value={IGNORED}", "-o", tmp_path / "out", "--split", "test", "--split", "val")
    assert check(*words)[0] == 1
    report = read(tmp_path / "out")
    assert problems(report, root) == {("unreadable picture", "images/test/d.jpg")}
    assert report["splits"]["test"]["labels"] is None
    assert list(report["splits"]) == ["train", "val", "test"]
    header = (tmp_path / "out/classes.csv").read_text().splitlines()[0]
    assert header == "id,name,train_pixels,train_share,train_pictures,val_pixels,val_share,val_pictures"


@pytest.mark.parametrize("train_split", ["train", "trainval"])
def test_a_published_layout_and_its_numbers(train_split: str, tmp_path: Path) -> None:
    truth = layouts.cityscapes(tmp_path / "data")
    words = ("--root", tmp_path / "data", f"dataset.train_split={train_split}", "-o", tmp_path / "out")
    code, said, told = check("cityscapes", *words)
    assert (code, told) == (0, "")
    report = read(tmp_path / "out")
    masks = [*truth["train"].values(), *(truth["val"].values() if train_split == "trainval" else ())]
    counts = [int(sum((mask == k).sum() for mask in masks)) for k in range(19)]
    assert [one["pixels"] for one in report["splits"]["train"]["classes"]] == counts
    notes = [(note["kind"], note["split"], note["text"]) for note in report["notes"]]
    assert ("count", "val", "1 pictures, published are 500 (-499)") in notes
    assert (("count", "train", "2 pictures, published are 2975 (-2973)") in notes) == (train_split == "train")
    assert (("same file", "val", "1 of its pictures are train files too, by the settings") in notes) == (
        train_split == "trainval"
    )
    assert "published are 500" in said
    assert ", but not the published number of pictures → " in said.splitlines()[-1]


def test_a_published_dataset_given_as_a_folder_is_told(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path / "my data")
    code, _, told = check(tmp_path / "my data")
    assert code == 1
    assert f"seems to be cityscapes: give cityscapes --root '{tmp_path / 'my data'}'" in told


def test_what_cannot_be_checked_is_told(tmp_path: Path) -> None:
    root = make(tmp_path / "data", ["a"], ["b"])
    for words, expected in (
        (["nowhere"], "nowhere is neither a folder nor a dataset: give a folder, or ade20k, cityscapes, folder"),
        (["shapes"], "shapes is drawn in memory: there are no files to check"),
        (["shapes", "--root", root], "--root"),
        ([root, "--root", root], "goes with a dataset's name"),
        ([root, "dataset.ignore=3"], "there is no setting dataset.ignore"),
        ([root, "dataset.crop=large"], "dataset.crop=large must be a whole number"),
        ([root, "dataset.label_map={7: 8}"], "lead"),
        (["ade20k", "--root", root], f"segmenter prepare ade20k --root {root}"),
        ([root, "-o", root / "classes.csv"], "is a file: give a folder"),
        ([tmp_path], "classes.csv is missing"),
    ):
        code, said, told = check(*words)
        assert code == 1, words
        assert said == ""
        assert told.startswith("Error: "), told
        assert expected in told


def test_a_name_wins_over_a_folder_and_results_have_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "shapes", ["a"], ["b"])
    assert "drawn in memory" in check("shapes")[2]
    assert check("./shapes", f"dataset.ignore_value={IGNORED}")[0] == 0
    assert read(tmp_path / "check/shapes")["dataset"] == "shapes"


def test_a_stop_leaves_no_report(tmp_path: Path) -> None:
    root = make(tmp_path / "data", [f"p{k}" for k in range(4)], ["b"])
    fifo = root / "images/train/p2.jpg"  # reading it waits until somebody writes
    fifo.unlink()
    os.mkfifo(fifo)
    stop = 'exec 3> "$0"; kill -INT "$1"; sleep 0.5'  # opening for writing waits until a process reads
    with subprocess.Popen(["sh", "-c", stop, str(fifo), str(os.getpid())]):
        code, said, told = check(root, f"dataset.ignore_value={IGNORED}", "-o", tmp_path / "out", "--workers", 1)
    assert (code, told) == (130, "")
    assert said == "Stopped: no report was written\n"
    assert not (tmp_path / "out").exists()


def test_camvid_is_clean_and_counted(assets: Path, tmp_path: Path) -> None:
    root = assets / "data" / "camvid"
    code, said, told = check(root, "dataset.ignore_value=11", "-o", tmp_path)
    assert (code, told) == (0, "")
    assert "camvid: no problem in 468 pairs of train, val" in said
    report = read(tmp_path)
    assert report["notes"] == []
    pixels = np.bincount(np.concatenate([label.ravel() for label in labels(root, "val")]), minlength=12)
    assert [one["pixels"] for one in report["splits"]["val"]["classes"]] == pixels[:11].tolist()
    assert report["splits"]["val"]["ignored_pixels"] == pixels[11]


def test_bars_are_as_long_as_the_logarithm_says_and_many_classes_stand_in_columns() -> None:
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    picture = np.array(class_bars({"train": np.array([0.1, 0.9, 0.0])}, ["a", "b", "c"], colors, "data"))
    lengths = [int((picture == color).all(2).sum(1).max()) for color in colors]
    assert lengths[2] == 0
    # Two decades on 320 pixels, without the outline on both sides.
    assert lengths[0] == pytest.approx(320 * (1 + np.log10(0.1) / 2) - 1, abs=1)
    assert lengths[1] == pytest.approx(320 * (1 + np.log10(0.9) / 2) - 1, abs=1)
    many = class_bars({"train": np.full(150, 1 / 150)}, [f"class {k}" for k in range(150)], distinct_colors(150), "")
    assert 1 < many.width / many.height < 2


@pytest.mark.parametrize(
    ("share", "text"),
    [(1, "100 %"), (0.12345, "12 %"), (0.0123, "1.2 %"), (1e-5, "0.001 %"), (3.3e-7, "0.000033 %"), (0, "0 %")],
)
def test_percentages_have_two_digits(share: float, text: str) -> None:
    assert percent(share) == text
