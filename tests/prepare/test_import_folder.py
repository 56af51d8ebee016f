"""`segmenter prepare folder`: hand-made COCO files and tables become a tree that dataset=folder reads."""

import csv
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl.cli import app
from segmenter_pl.commands.prepare_folder import override
from segmenter_pl.data.classes import read_classes
from segmenter_pl.data.folder import FolderDataModule
from segmenter_pl.prepare import writing
from tests.prepare.test_import_outlines import compressed, runs_of

WIDTH, HEIGHT = 12, 10


def prepare(root: Path, source: str, *words: object) -> tuple[int, str, str]:
    line = ["prepare", "folder", "--root", root, "--from", source, *words]
    done = CliRunner().invoke(app, [str(word) for word in line], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def picture(path: Path, seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def save(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def image(id_: int | str, name: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "file_name": name, "width": WIDTH, "height": HEIGHT, **more}


def annotation(image_id: int | str, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image_id, "category_id": category, "segmentation": segmentation, **more}


CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 90, "name": "zebra"}, {"id": 3, "name": "dog, small"}]


def document(*annotations: dict[str, Any], images: Any = None, categories: Any = CATEGORIES) -> dict[str, Any]:
    return {"images": images or [image(1, "a.png")], "annotations": list(annotations), "categories": categories}


@pytest.fixture
def coco(tmp_path: Path) -> list[object]:
    """Two training pictures, one of them without an object, and one for validation; the options that import them."""
    for seed, name in enumerate(("train/a.png", "train/deep/b.jpg", "val/a.png")):
        picture(tmp_path / "photos" / name, seed)
    images = [image(1, "a.png"), image(2, "deep/b.jpg", width=None, height=None)]
    train = document(annotation(1, 7, [box(1, 1, 9, 8)]), annotation(1, 3, [box(2, 2, 4, 4)]), images=images)
    val = document(annotation(1, 90, [box(0, 0, 3, 10)]))
    photos = tmp_path / "photos"
    return [
        *("--train", save(tmp_path / "train.json", train), "--val", save(tmp_path / "val.json", val)),
        *("--pictures", photos / "train", "--val-pictures", photos / "val"),
    ]


def single(folder: Path, content: Any, *words: object) -> tuple[tuple[int, str, str], np.ndarray | None]:
    """Import one picture, twice, and read its label."""
    picture(folder / "photos/a.png")
    file = save(folder / "coco.json", content)
    done = prepare(folder / "root", "coco", "--train", file, "--val", file, "--pictures", folder / "photos", *words)
    label = folder / "root/labels/train/a.png"
    return done, np.array(Image.open(label)) if label.exists() else None


def modules(root: Path, split: str) -> Any:
    return FolderDataModule(root, batch_size=1, crop=8).dataset(split)


def entries(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# COCO instances


def test_coco_polygons_read_through_the_data_module(tmp_path: Path, coco: list[object]) -> None:
    root = tmp_path / "root"
    code, said, told = prepare(root, "coco", *coco)
    assert (code, told) == (0, "")
    assert "2 train and 1 val pictures" in said
    assert f"segmenter check {root}" in said
    assert f"python train.py dataset=folder dataset.root={root} " in said
    assert "train.json: 1 of 2 pictures have no annotation: all background" in said
    train, val = modules(root, "train"), modules(root, "val")
    assert train.classes.names == ("background", "dog, small", "cat", "zebra")  # by category id
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[1:8, 1:9] = 2
    mask[2:4, 2:4] = 1
    pixels, read = train.read(0)
    assert np.array_equal(read, mask)
    assert np.array_equal(pixels, np.array(Image.open(tmp_path / "photos/train/a.png")))
    assert not train.read(1)[1].any()
    assert train.name(1) == "deep/b"
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, :3] = 3
    assert np.array_equal(val.read(0)[1], mask)
    assert (root / "images/train/deep/b.jpg").read_bytes() == (tmp_path / "photos/train/deep/b.jpg").read_bytes()
    assert sorted(path.name for path in root.iterdir()) == ["classes.csv", "images", "labels"]


@pytest.mark.parametrize("order", [1, -1])
def test_the_smaller_object_is_on_top_whatever_the_order(tmp_path: Path, order: int) -> None:
    large, small = annotation(1, 7, [box(0, 0, 8, 8)], area=1), annotation(1, 3, [box(4, 4, 10, 9)], area=1000)
    done, label = single(tmp_path, document(*[large, small][::order]))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:8, :8] = 2
    expected[4:9, 4:10] = 1
    assert done[0] == 0
    assert np.array_equal(label, expected)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("crowd", [None, "ignore", "class"])
def test_run_lengths_and_crowds(tmp_path: Path, text: bool, crowd: str | None) -> None:
    region = np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.4
    counts: Any = compressed(runs_of(region)) if text else runs_of(region)
    crowded = annotation(1, 90, {"counts": counts, "size": [HEIGHT, WIDTH]}, iscrowd=1)
    inside = annotation(1, 7, [box(0, 0, 12, 9)], iscrowd=0)  # larger than the crowd, and yet on it
    (code, said, _), label = single(tmp_path, document(inside, crowded), *(("--crowd", crowd) if crowd else ()))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    if crowd == "class":
        expected[:9] = 2
        expected[region] = 3
    else:
        expected[region] = 255
        expected[:9] = 2
        assert "coco.json: 1 crowd regions are ignored (255)" in said
    assert code == 0
    assert np.array_equal(label, expected)


def test_background_may_be_ignored(tmp_path: Path) -> None:
    (code, said, _), label = single(tmp_path, document(annotation(1, 7, [box(0, 0, 2, 2)])), "--background", "ignore")
    expected = np.full((HEIGHT, WIDTH), 255, np.uint8)
    expected[:2, :2] = 2
    assert code == 0
    assert np.array_equal(label, expected)
    assert read_classes(tmp_path / "root/classes.csv")[0] == [1, 2, 3]
    assert "2 of 3 classes have no pixel: dog, small, zebra" in said


def test_a_category_called_background_is_class_0(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "Background"}, {"id": 1, "name": "cat"}]
    regions = annotation(1, 1, [box(0, 0, 6, 6)]), annotation(1, 0, [box(2, 2, 4, 4)])
    _, label = single(tmp_path, document(*regions, categories=categories))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:6, :6] = 1
    expected[2:4, 2:4] = 0
    assert np.array_equal(label, expected)
    assert modules(tmp_path / "root", "val").classes.names == ("background", "cat")


@pytest.mark.parametrize(("count", "bits"), [(254, 8), (255, 16), (400, 16)])
def test_many_categories_leave_255_to_what_is_ignored(tmp_path: Path, count: int, bits: int) -> None:
    categories = [{"id": 10 * k, "name": f"class of {k}"} for k in range(1, count + 1)]
    crowded = annotation(1, 10, [box(0, 0, 1, 1)], iscrowd=1)
    last = annotation(1, 10 * count, [box(5, 5, 8, 8)])
    _, label = single(tmp_path, document(crowded, last, categories=categories))
    assert label is not None
    assert label.dtype.itemsize * 8 == bits
    assert label[0, 0] == 255
    dataset = modules(tmp_path / "root", "train")
    mask = dataset.read(0)[1]
    assert dataset.classes.names[mask[6, 6]] == f"class of {count}"
    assert mask[0, 0] == dataset.classes.ignore_index
    assert mask[9, 9] == 0


def test_a_share_is_held_out_the_same_each_time(tmp_path: Path) -> None:
    names = [f"{k:02d}.png" for k in range(10)]
    for seed, name in enumerate(names):
        picture(tmp_path / "photos" / name, seed)
    held = []
    for root, order in (("one", 1), ("two", -1)):  # the order in the file does not matter
        content = document(images=[image(k, name) for k, name in enumerate(names)][::order])
        file = save(tmp_path / f"{root}.json", content)
        words = ("--train", file, "--val", 0.3, "--pictures", tmp_path / "photos")
        assert prepare(tmp_path / root, "coco", *words)[0] == 0
        held.append(entries(tmp_path / root / "images/val"))
        assert sorted([*held[-1], *entries(tmp_path / root / "images/train")]) == names
    assert held[0] == held[1]
    assert len(held[0]) == 3


def test_all_problems_of_a_json_are_listed_and_nothing_is_written(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.png", "a.jpg", "wide.png", ".hidden.png", "film.gif")):
        picture(tmp_path / "photos" / name, seed)
    save(tmp_path / "photos/broken.png", "no picture")
    picture(tmp_path / "outside.png")
    images = [
        *(image(1, "a.png"), image(2, "../outside.png"), image(3, str(tmp_path / "outside.png")), image(4, "a.jpg")),
        *(image(5, "wide.png", width=13), image(6, "lost.png"), image(7, ".hidden.png"), image(8, "film.gif")),
        *(image(9, "broken.png"), image(1, "again.png"), image(10, "x.png", width=0), image(11, r"..\outside.png")),
    ]
    annotations = [
        *(annotation(99, 7, [box(0, 0, 1, 1)]), annotation(1, 8, [box(0, 0, 1, 1)]), annotation(1, 7, [])),
        *(annotation(1, 7, [[1, 2, 3]]), annotation(1, 7, {"counts": [5], "size": [HEIGHT, WIDTH]})),
        *(annotation(1, 7, {"counts": [20], "size": [4, 5]}), {"id": 5, "image_id": 1}),
    ]
    categories = [*CATEGORIES, {"id": 4, "name": "cat"}, {"name": "no id"}]
    content = document(*annotations, images=images, categories=categories)
    (code, said, told), _ = single(tmp_path, content)
    assert (code, said) == (1, "")
    assert "problems):" in told
    assert "… and" in told  # both splits have them
    assert not (tmp_path / "root").exists()
    words = ("--train", tmp_path / "coco.json", "--val", 0.5, "--pictures", tmp_path / "photos")
    code, _, told = prepare(tmp_path / "root", "coco", *words)  # one split has no more than are told
    for expected in (
        "image 2: file_name '../outside.png' leads out",
        f"image 3: file_name '{tmp_path}/outside.png' leads out",
        "image 4: a.jpg would share its label with a.png",
        "wide.png is 12x10 pixels, its JSON says 13x10",
        "lost.png is missing",
        ".hidden.png is a hidden file",
        "film.gif is none of .jpg",
        "broken.png cannot be read",
        "image 1: this id was there before, for a.png",
        "image 10: width 0 and height 10 are no size",
        r"image 11: file_name '..\\outside.png' leads out",
        "there is no image 99",
        "there is no category 8",
        "it has no outline",
        "must be a list of x, y",
        "run lengths cover 5 pixels, the picture has 12x10",
        "size (height, width) [4, 5], the image is (12, 10)",
        "annotations number 7: category_id, segmentation missing",
        "each once: 'cat'",
        "categories number 5: id missing",
    ):
        assert expected in told
    assert "(20 problems)" in told
    assert code == 1
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no JSON"), ("[]", "has no list images, annotations, categories"), ('{"images": 1}', "has no list")],
)
def test_another_file_than_cocos(tmp_path: Path, content: str, message: str) -> None:
    (code, _, told), _ = single(tmp_path, content)
    assert code == 1
    assert message in told


def test_categories_must_agree_between_splits(tmp_path: Path, coco: list[object]) -> None:
    save(tmp_path / "val.json", document(categories=[{"id": 7, "name": "dog"}]))
    code, _, told = prepare(tmp_path / "root", "coco", *coco)
    assert code == 1
    assert "category 7: called 'cat' before and 'dog' here" in told


# Pictures that are no RGB


def tiff(path: Path, channels: int, bits: int) -> Path:
    """An uncompressed little-endian TIFF of one strip."""
    data, shape = bytes(WIDTH * HEIGHT * channels * bits // 8), (WIDTH, HEIGHT)
    start = 8 + 2 + 9 * 12 + 4
    tags = [(256, 4, shape[0]), (257, 4, shape[1]), (258, 3, bits), (259, 3, 1), (262, 3, 2 if channels > 2 else 1)]
    tags += [(273, 4, start + 2 * channels), (277, 3, channels), (278, 4, HEIGHT), (279, 4, len(data))]
    records = b""
    for tag, kind, value in tags:
        count, place = (channels, start) if tag == 258 and channels > 2 else (1, value)
        records += struct.pack("<HHII", tag, kind, count, place)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    path.write_bytes(head + records + bytes(4) + struct.pack("<H", bits) * channels + data)
    return path


def test_alpha_is_dropped_and_more_channels_are_refused(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    pixels = np.array(Image.open(picture(photos / "alpha.png", mode="RGBA")))
    picture(photos / "grey.png", mode="L")
    file = save(tmp_path / "one.json", document(images=[image(1, "alpha.png"), image(2, "grey.png")]))
    code, said, _ = prepare(tmp_path / "one", "coco", "--train", file, "--val", file, "--pictures", photos)
    assert code == 0
    assert "train: 1 of 2 pictures have an alpha channel, which is dropped" in said
    assert np.array_equal(modules(tmp_path / "one", "train").read(0)[0], pixels[..., :3])
    tiff(photos / "three.tif", 3, 8)
    for channels, bits in ((4, 8), (5, 8), (8, 16), (3, 16)):
        tiff(photos / f"{channels}x{bits}.tif", channels, bits)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(photos / "deep.png")
    names = ("three.tif", "4x8.tif", "5x8.tif", "8x16.tif", "3x16.tif", "deep.png")
    file = save(tmp_path / "two.json", document(images=[image(k, name) for k, name in enumerate(names)]))
    code, _, told = prepare(tmp_path / "two", "coco", "--train", file, "--val", file, "--pictures", photos)
    assert code == 1
    assert "three.tif" not in told
    for channels, bits in ((4, 8), (5, 8), (8, 16), (3, 16)):
        assert f"{channels}x{bits}.tif has {channels} channels of {bits} bits: only 8-bit RGB or grey" in told
    assert "deep.png has more than 8 bits" in told


def test_exif_rotation_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(tmp_path / "photos/a.jpg", size=(WIDTH, HEIGHT))
    Image.open(path).copy().save(path, exif=exif)
    words = ("--val", tmp_path / "coco.json", "--pictures", tmp_path / "photos")
    file = save(tmp_path / "coco.json", document(images=[image(1, "a.jpg")]))
    code, _, told = prepare(tmp_path / "root", "coco", "--train", file, *words)
    assert code == 1
    assert "is 10x12 pixels, EXIF rotation applied, its JSON says 12x10" in told
    save(file, document(images=[image(1, "a.jpg", width=HEIGHT, height=WIDTH)]))
    code, said, _ = prepare(tmp_path / "root", "coco", "--train", file, *words)
    assert code == 0
    assert "train: 1 of 1 pictures have an EXIF rotation" in said
    pixels, mask = modules(tmp_path / "root", "train").read(0)
    assert pixels.shape[:2] == mask.shape == (WIDTH, HEIGHT)


# COCO panoptic


def panoptic(folder: Path, ids: np.ndarray, segments: list[dict[str, Any]]) -> list[object]:
    picture(folder / "photos/a.png")
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    (folder / "segments").mkdir(exist_ok=True)
    Image.fromarray(colors).save(folder / "segments/a.png")
    info = {"image_id": "one", "file_name": "a.png", "segments_info": segments}
    categories = [{"id": 1, "name": "sky", "color": [1, 2, 3], "isthing": 0}, {"id": 200, "name": "car"}]
    content = document(info, images=[image("one", "a.png")], categories=categories)
    file = save(folder / "segments.json", content)
    return ["--train", file, "--val", file, "--pictures", folder / "photos"]


SEGMENTS = [
    {"id": 5, "category_id": 1, "iscrowd": 0},
    {"id": 256 * 3 + 1, "category_id": 200, "iscrowd": 0},
    {"id": 65536 * 2 + 7, "category_id": 200, "iscrowd": 1},
]


def test_panoptic_colours_are_segments(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).choice([0, *(entry["id"] for entry in SEGMENTS)], (HEIGHT, WIDTH))
    for crowd, value in (("ignore", 255), ("class", 2)):
        root = tmp_path / crowd
        code, said, told = prepare(root, "panoptic", *panoptic(tmp_path, ids, SEGMENTS), "--crowd", crowd)
        assert (code, told) == (0, "")
        assert ("crowd segments are ignored" in said) == (crowd == "ignore")
        expected = np.select([ids == 0, *(ids == entry["id"] for entry in SEGMENTS)], [255, 1, 2, value])
        assert np.array_equal(np.array(Image.open(root / "labels/train/a.png")), expected)
        read = modules(root, "val").read(0)[1]
        assert np.array_equal(read, np.where(expected == 255, 255, expected - 1))
    assert (tmp_path / "class/classes.csv").read_text().splitlines()[:2] == ["id,name,R,G,B", "1,sky,1,2,3"]
    with Image.open(tmp_path / "class/labels/train/a.png") as label:
        assert (label.getpalette() or [])[3:6] == [1, 2, 3]  # a viewer shows the classes' colours


def test_panoptic_problems(tmp_path: Path) -> None:
    ids = np.full((HEIGHT, WIDTH), 5)
    ids[0, 0] = 6
    code, _, told = prepare(tmp_path / "root", "panoptic", *panoptic(tmp_path, ids, SEGMENTS))
    assert code == 1
    assert "holds segments that the JSON does not list: 6" in told
    words = panoptic(tmp_path, ids[:5], SEGMENTS)
    assert "a.png is RGB, 12x5 pixels; wanted is RGB, 12x10" in prepare(tmp_path / "root", "panoptic", *words)[2]
    words = panoptic(tmp_path, ids, [{"id": 5, "category_id": 77}])
    assert "a category that does not exist" in prepare(tmp_path / "root", "panoptic", *words)[2]
    (tmp_path / "segments/a.png").unlink()
    words = words if not (tmp_path / "segments/a.png").exists() else []
    save(tmp_path / "segments.json", (tmp_path / "segments.json").read_text().replace("77", "1"))
    assert "segments/a.png is missing" in prepare(tmp_path / "root", "panoptic", *words)[2]
    assert not (tmp_path / "root").exists()


# Tables


def table(folder: Path, rows: list[tuple[object, ...]], header: str = "split,picture,label") -> Path:
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return folder / "pairs.csv"


def label(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(1).choice(np.array([0, 7, 255], np.uint8), (HEIGHT, WIDTH))


def test_a_table_of_pairs(tmp_path: Path, values: np.ndarray) -> None:
    photos = [picture(tmp_path / "in" / name, k) for k, name in enumerate(("x/a.png", "x/y/b.jpg", "c.png"))]
    label(tmp_path / "truth/a mask.png", values)
    label(tmp_path / "truth/b.tif", values.astype(np.uint16) + 300)
    rows = [
        ("train", "in/x/a.png", "truth/a mask.png"),
        ("train", photos[1], tmp_path / "truth/b.tif"),
        ("val", "in/c.png", "truth/a mask.png"),
    ]
    code, said, told = prepare(tmp_path / "root", "csv", "--pairs", table(tmp_path, rows))
    assert (code, told) == (0, "")
    assert "classes.csv calls the classes by their label values" in said
    train = modules(tmp_path / "root", "train")
    assert train.classes.names == ("class 0", "class 7", "class 300", "class 307", "class 555")
    assert [train.name(k) for k in range(2)] == ["a", "y/b"]
    first, second = (np.array(train.read(k)[1]) for k in range(2))
    assert np.array_equal(first, np.select([values == 0, values == 7], [0, 1], 255))
    assert np.array_equal(second, np.select([values == 0, values == 7], [2, 3], 4))
    assert np.array_equal(modules(tmp_path / "root", "val").read(0)[1], first)


def test_a_class_table_is_copied_and_must_hold_all_values(tmp_path: Path, values: np.ndarray) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
        label(tmp_path / f"{name}_label.png", values)
    pairs = table(tmp_path, [("train", "a.png", "a_label.png"), ("val", "b.png", "b_label.png")])
    classes = save(tmp_path / "mine.csv", "id,name\n0,ground\n7,glass\n")
    assert prepare(tmp_path / "root", "csv", "--pairs", pairs, "--classes", classes)[0] == 0
    assert (tmp_path / "root/classes.csv").read_text() == classes.read_text()
    classes.write_text("id,name\n0,ground\n8,glass\n")
    code, _, told = prepare(tmp_path / "other", "csv", "--pairs", pairs, "--classes", classes)
    assert code == 1
    assert "line 2: the label" in told
    assert "holds values without a row in --classes: 7" in told
    assert not (tmp_path / "other").exists()


def test_labels_of_0_and_255_alone_are_asked_about(tmp_path: Path, values: np.ndarray) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    label(tmp_path / "m.png", np.where(values == 7, 0, values))
    pairs = table(tmp_path, [("train", "a.png", "m.png"), ("val", "b.png", "m.png")])
    code, _, told = prepare(tmp_path / "root", "csv", "--pairs", pairs)
    assert code == 1
    assert "the labels hold 0 and 255 alone" in told
    classes = save(tmp_path / "classes.csv", "id,name\n0,ground\n255,glass\n")
    assert prepare(tmp_path / "root", "csv", "--pairs", pairs, "--classes", classes)[0] == 0
    assert np.array_equal(modules(tmp_path / "root", "val").read(0)[1], values == 255)


def test_wrong_rows_are_listed_by_line(tmp_path: Path, values: np.ndarray) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    label(tmp_path / "m.png", values)
    label(tmp_path / "m.jpg", values)
    label(tmp_path / "rgb.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    save(tmp_path / "bad.png", "x")
    rows = [
        *(("train", "a.png", "m.png"), ("valid", "a.png", "m.png"), ("train", "no.png", "m.png"), ("val", "b.png")),
        *(("val", "b.png", "no.png"), ("val", "./a.png", "m.png"), ("val", "b.png", "m.jpg")),
        *(("val", "b.png", "rgb.png"), ("val", "b.png", "bad.png"), ("val", "", "m.png")),
    ]
    code, _, told = prepare(tmp_path / "root", "csv", "--pairs", table(tmp_path, rows))
    assert code == 1
    assert "(9 problems)" in told
    for expected in (
        "line 3: the split is 'valid': use train, val, test",
        "line 4: the picture 'no.png' is missing",
        "line 5: the label '' is missing",
        "line 6: the label 'no.png' is missing",
        "line 7: the picture",
        "is in line 2 too",
        "m.jpg is a JPEG",
        "rgb.png has mode 'RGB'",
        "bad.png cannot be read",
        "line 11: the picture '' is missing",
    ):
        assert expected in told
    assert not (tmp_path / "root").exists()
    told = prepare(tmp_path / "root", "csv", "--pairs", table(tmp_path, rows, "a,b,c"))[2]
    assert "has the header 'a,b,c'; it must be split,picture,label" in told
    told = prepare(tmp_path / "root", "csv", "--pairs", table(tmp_path, rows[:1]))[2]
    assert "no row of split val" in told
    label(tmp_path / "m.png", values[:5])
    told = prepare(tmp_path / "root", "csv", "--pairs", table(tmp_path, [rows[0], ("val", "b.png", "m.png")]))[2]
    assert "m.png is 12x5 and its picture 12x10 pixels" in told
    assert not (tmp_path / "root").exists()


# The tree


def test_links_share_the_file(tmp_path: Path, coco: list[object], values: np.ndarray) -> None:
    assert prepare(tmp_path / "root", "coco", *coco, "--link")[0] == 0
    assert (tmp_path / "root/images/train/a.png").samefile(tmp_path / "photos/train/a.png")
    assert (tmp_path / "root/images/train/a.png").lstat().st_nlink == 2
    truth = label(tmp_path / "m.png", values)
    pairs = table(tmp_path, [("train", "photos/train/a.png", "m.png"), ("val", "photos/val/a.png", "m.png")])
    assert prepare(tmp_path / "pairs", "csv", "--pairs", pairs, "--link")[0] == 0
    assert (tmp_path / "pairs/labels/val/a.png").samefile(truth)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second file system")
def test_links_to_another_disk_are_symbolic(tmp_path: Path) -> None:
    other = Path("/dev/shm") / f"{os.getpid()}-{tmp_path.name}"
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    try:
        picture(other / "a.png")
        file = save(tmp_path / "coco.json", document())
        words = ("--train", file, "--val", file, "--pictures", other, "--link")
        assert prepare(tmp_path / "root", "coco", *words)[0] == 0
        assert (tmp_path / "root/images/train/a.png").readlink() == other / "a.png"
    finally:
        (other / "a.png").unlink(missing_ok=True)
        other.rmdir()


def test_a_root_that_holds_something_is_left_alone(tmp_path: Path, coco: list[object]) -> None:
    mine = save(tmp_path / "root/images/mine.txt", "mine")
    code, _, told = prepare(tmp_path / "root", "coco", *coco)
    assert code == 1
    assert "root holds images: give a folder that is new or empty" in told
    assert mine.read_text() == "mine"
    assert "is a file" in prepare(mine, "coco", *coco)[2]
    empty = tmp_path / "empty"
    empty.mkdir()
    save(tmp_path / "val.json", "{")
    assert prepare(empty, "coco", *coco)[0] == 1
    assert entries(empty) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("coco",), "--from coco needs --pictures, --train, --val"),
        (("csv",), "--from csv needs --pairs"),
        (("panoptic", "--background", "class"), "--from panoptic needs"),
        (("csv", "--pairs", "x.csv", "--crowd", "class"), "--crowd: not for --from csv"),
        (("csv", "--pairs", "x.csv"), "--pairs x.csv is missing"),
        (("coco", "--train", "x.json", "--val", "1.5", "--pictures", "."), "--val 1.5: a share lies between 0 and 1"),
        (("coco", "--train", "x.json", "--val", "0.5", "--pictures", "."), "x.json is missing"),
        (("coco", "--train", "x.json", "--val", "0.5", "--pictures", "gone"), "--pictures gone is not a folder"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    code, _, told = prepare(tmp_path / "root", *words)
    assert code == 1
    assert message in told
    assert not (tmp_path / "root").exists()


def test_the_command_that_is_suggested_is_quoted() -> None:
    assert override("dataset.root", Path("a/b-c_1.2")) == "dataset.root=a/b-c_1.2"
    assert override("dataset.root", Path("my data")) == "'dataset.root=\"my data\"'"


# Interruptions: a process that stops itself at a call of its own, as a person or a cluster would

STOPPING = """
import os, signal, sys
from pathlib import Path
from PIL import Image
from segmenter_pl.cli import main
moment, number = sys.argv[1], getattr(signal, sys.argv[2])
del sys.argv[1:3]
owner, name, at = {
    "third label": (Image.Image, "save", 3), "last move": (Path, "rename", 3)
}[moment]
done, before = 0, getattr(owner, name)
def counted(*args, **kwargs):
    global done
    done += 1
    if done == at:
        os.kill(os.getpid(), number)
    return before(*args, **kwargs)
setattr(owner, name, counted)
main()
"""


@pytest.mark.parametrize("moment", ["third label", "last move"])
@pytest.mark.parametrize("number", ["SIGINT", "SIGKILL"])
def test_a_stopped_import_looks_unfinished_and_starts_over(tmp_path: Path, moment: str, number: str) -> None:
    for k in range(8):
        picture(tmp_path / f"photos/{k}.png", k)
    file = save(tmp_path / "coco.json", document(images=[image(k, f"{k}.png") for k in range(8)]))
    root = tmp_path / "root"
    words = ["--train", str(file), "--val", "0.5", "--pictures", str(tmp_path / "photos")]
    line = [sys.executable, "-c", STOPPING, moment, number, "prepare", "folder", "--root", str(root), "--from", "coco"]
    done = subprocess.run([*line, *words], capture_output=True, text=True, timeout=100)
    if number == "SIGINT":
        assert done.returncode == 130
        assert done.stderr == "Stopped: nothing is imported\n"
        assert not root.exists()
    else:
        assert done.returncode == -signal.SIGKILL
        assert (root / ".preparing").is_dir()
        with pytest.raises(FileNotFoundError):
            modules(root, "train")
    assert prepare(root, "coco", *words)[0] == 0
    assert len(modules(root, "train")) == len(modules(root, "val")) == 4
    assert sorted(path.name for path in root.iterdir()) == ["classes.csv", "images", "labels"]


def test_two_imports_do_not_meet(tmp_path: Path, coco: list[object]) -> None:
    with writing.empty(tmp_path / "root"):
        code, _, told = prepare(tmp_path / "root", "coco", *coco)
        assert code == 1
        assert "another process is writing to --root" in told
    assert not (tmp_path / "root").exists()
