"""`segmenter prepare pascal_context`: 459 classes become 60, and lists are those of VOC 2010."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from segmenter_pl.data.pascal_context import PascalContextDataModule
from segmenter_pl.prepare.pascal_context import read_459, table_459
from tests import layouts
from tests.packing import pascal_archives, prepare, tree_of

VOC = "VOCdevkit/VOC2010"
SIZES = {"2008_000002": (40, 56), "2008_000007": (30, 20), "2008_000003": (8, 64)}
SPLITS = {"train": ["2008_000002", "2008_000007"], "val": ["2008_000003"]}


def make(folder: Path, wrong: dict[str, dict[str, np.ndarray]] | None = None) -> dict[str, dict[str, np.ndarray]]:
    """Both archives; returns the 459 ids by split and name."""
    rng, tree, ids = np.random.default_rng(0), folder / "tree", {}
    for split, names in SPLITS.items():
        ids[split] = {name: rng.integers(0, 460, SIZES[name]).astype(np.uint16) for name in names}
        for name in names:
            layouts.save(tree / VOC / "JPEGImages" / f"{name}.jpg", layouts.picture(rng, SIZES[name]))
    layouts.save(tree / VOC / "JPEGImages" / "2009_005.jpg", layouts.picture(rng, (8, 8)))
    told = {split: part | (wrong or {}).get(split, {}) for split, part in ids.items()}
    pascal_archives(folder / "archives", tree, told)
    return ids


def to_59(assets: Path, ids: np.ndarray) -> np.ndarray:
    with (assets / "data/classes/pascal_context_459_to_59.csv").open() as file:
        rows = {int(row["id_459"]): int(row["id_59_mmseg_order"]) for row in csv.DictReader(file)}
    assert len(rows) == 460
    return np.vectorize(rows.__getitem__)(ids)


def test_the_table_is_the_published_one(assets: Path) -> None:
    np.testing.assert_array_equal(table_459(), to_59(assets, np.arange(460)))
    assert (table_459() > 0).sum() == 59


def test_from_the_original_archives(tmp_path: Path, assets: Path) -> None:
    ids, root = make(tmp_path), tmp_path / "pc"
    words = ("pascal_context", "--root", root, "--source", tmp_path / "archives", "--unverified")
    code, said, told = prepare(*words)
    assert code == 0
    assert "Flickr" in said
    assert f"pascal_context is in {root}: 2 train, 1 val pictures" in said
    assert "val: 1 pictures, published are 5105 or 5104 (-5104)" in told
    data = PascalContextDataModule(root, batch_size=1, crop=32)
    for split, labels in ids.items():
        names = (root / VOC / "ImageSets/SegmentationContext" / f"{split}.txt").read_text()
        assert names == "".join(f"{name}\n" for name in sorted(labels))
        with pytest.warns(UserWarning, match="published are"):
            dataset = data.dataset(split)
        for k in range(len(dataset)):
            np.testing.assert_array_equal(dataset.read(k)[1], to_59(assets, labels[dataset.name(k)]))
    with Image.open(root / VOC / "SegmentationClassContext/2008_000002.png") as label:
        assert label.mode == "L"
    assert sorted(path.name for path in root.iterdir()) == [".prepared.json", "VOCdevkit"]
    assert not list(root.rglob("*.mat"))
    before = tree_of(root)
    assert prepare(*words)[1].endswith("nothing to do\n")
    assert tree_of(root) == before


def test_a_label_of_another_size_is_named(tmp_path: Path) -> None:
    make(tmp_path, {"train": {"2008_000007": np.ones((30, 21), np.uint16)}})
    words = ("--root", tmp_path / "pc", "--source", tmp_path / "archives", "--unverified")
    code, _, told = prepare("pascal_context", *words)
    assert code == 1
    assert "2008_000007.mat is 21x30 and 2008_000007.jpg is 20x30" in told
    assert [path.name for path in (tmp_path / "pc").iterdir()] == [".preparing"]


def test_damaged_labels_are_named(tmp_path: Path) -> None:
    path = tmp_path / "2008_000002.mat"
    scipy.io.savemat(path, {"LabelMap": np.ones((40, 50), np.uint16)}, do_compression=True)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    cut = [whole[:size] for size in (0, 4, 100, 127, 130, 140, len(whole) - 3)]
    for content in (*cut, rng.bytes(500), whole[:128] + rng.bytes(100), b"MATLAB 7.3 MAT-file".ljust(200, b"\0")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"2008_000002\.mat (is damaged|holds no LabelMap)"):
            read_459(path)
    for variables, said in (
        ({"other": np.ones((4, 4))}, "holds no LabelMap"),
        ({"LabelMap": np.full((4, 4), 460, np.uint16)}, "other things than ids 0…459"),
        ({"LabelMap": np.full((4, 4), -1, np.int16)}, "other things than ids"),
        ({"LabelMap": np.full((4, 4), 1.5)}, "other things than ids"),
        ({"LabelMap": np.ones((4, 4, 3), np.uint8)}, "other things than ids"),
        ({"LabelMap": "text"}, "other things than ids"),
    ):
        scipy.io.savemat(path, variables)
        with pytest.raises(ValueError, match=rf"2008_000002\.mat.*{said}"):
            read_459(path)


def test_converted_labels_of_a_source_serve_in_place_of_the_archive(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "archives/trainval.tar.gz").unlink()
    truth = layouts.pascal_context(tmp_path / "converted")
    source, root = tmp_path / "converted" / VOC, tmp_path / "pc"
    words = ("--root", root, "--source", tmp_path / "archives", "--source", source, "--unverified")
    assert prepare("pascal_context", *words)[0] == 0
    for name, label in (truth["train"] | truth["val"]).items():
        with Image.open(root / VOC / "SegmentationClassContext" / f"{name}.png") as picture:
            np.testing.assert_array_equal(np.array(picture), label)
    assert (root / VOC / "ImageSets/SegmentationContext/train.txt").read_text() == "2008_000002\n2008_000007\n"
    assert [*json.loads((root / ".prepared.json").read_text())["pascal_context"]["archives"]] == [
        "VOCtrainval_03-May-2010.tar"
    ]


def own_copy(home: Path, train: int, val: int) -> None:
    """VOC 2010 with converted labels and without their lists; contents do not matter."""
    for folder in ("JPEGImages", "SegmentationClassContext", "ImageSets/Main"):
        (home / folder).mkdir(parents=True)
    for split, count in (("train", train), ("val", val)):
        names = [f"{split}_{number}" for number in range(count)]
        for name in names:
            (home / "JPEGImages" / f"{name}.jpg").touch()
            (home / "SegmentationClassContext" / f"{name}.png").touch()
        (home / "ImageSets/Main" / f"{split}.txt").write_text("\n".join([*names, f"{split}_unlabelled"]))


def test_a_copy_of_the_users_own_gets_its_missing_lists(tmp_path: Path) -> None:
    own_copy(tmp_path / VOC, 4996, 5104)
    before = tree_of(tmp_path)
    code, said, told = prepare("pascal_context", "--root", tmp_path)
    assert (code, told) == (0, "")
    assert said.startswith(f"pascal_context is in {tmp_path}: 4996 train, 5104 val pictures")
    new = {name for name in tree_of(tmp_path) if name not in before}
    lists = f"{VOC}/ImageSets/SegmentationContext"
    assert new == {".prepared.json", lists, f"{lists}/train.txt", f"{lists}/val.txt"}


def test_one_that_is_not_complete_does_not(tmp_path: Path) -> None:
    own_copy(tmp_path, 3, 2)
    before = {name for name, kind in tree_of(tmp_path).items() if kind != "folder"}
    code, _, told = prepare("pascal_context", "--root", tmp_path)
    assert code == 1
    assert "train: 3 pictures, published are 4998 or 4996" in told
    assert {name for name, kind in tree_of(tmp_path).items() if kind != "folder"} == before
