"""The published datasets: official layouts, label rules, class tables, and what is said where something is missing."""

import csv

import numpy as np
import pytest
from PIL import Image

from segmenter_pl.data.ade20k import ADE20KDataModule
from segmenter_pl.data.cityscapes import CityscapesDataModule
from segmenter_pl.data.pascal_context import PascalContextDataModule
from segmenter_pl.data.published import PublishedDataModule
from segmenter_pl.data.rgbt_glass import RGBTGlassDataModule
from tests import layouts

SETTINGS = {"batch_size": 2, "crop": 32}
MODULES = {
    "ade20k": ADE20KDataModule,
    "pascal_context": PascalContextDataModule,
    "cityscapes": CityscapesDataModule,
    "rgbt_glass": RGBTGlassDataModule,
}
COUNTED = "ignore:.*published are.*:UserWarning"  # the trees here are tiny


def masks_of(module: PublishedDataModule, split: str) -> dict[str, np.ndarray]:
    dataset = module.dataset(split)
    return {dataset.name(index).rpartition("/")[2]: dataset.read(index)[1] for index in range(len(dataset))}


@pytest.mark.filterwarnings(COUNTED)
@pytest.mark.parametrize("name", MODULES)
def test_every_pair_is_found_with_its_train_ids(name, tmp_path):
    truth = getattr(layouts, name)(tmp_path)
    for split, expected in truth.items():
        dataset = MODULES[name](tmp_path, **SETTINGS).dataset(split)
        assert len(dataset) == len(expected)
        by_path = {path.with_suffix("").as_posix(): index for index, path in enumerate(dataset.pictures)}
        for picture, mask in expected.items():
            (index,) = (index for path, index in by_path.items() if path.endswith(f"/{picture}"))
            found = dataset.read(index)[1]
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, mask)


@pytest.mark.filterwarnings(COUNTED)
@pytest.mark.parametrize("name", ["ade20k", "pascal_context"])
def test_the_folder_of_the_archive_is_a_root_too(name, tmp_path):
    truth = getattr(layouts, name)(tmp_path)
    home = tmp_path / MODULES[name].homes[0]
    assert len(MODULES[name](home, **SETTINGS).dataset("val")) == len(truth["val"])


@pytest.mark.filterwarnings(COUNTED)
def test_cityscapes_takes_train_ids_where_only_those_are(tmp_path):
    truth = layouts.cityscapes(tmp_path, kind="labelTrainIds")
    dataset = CityscapesDataModule(tmp_path, **SETTINGS).dataset("train")
    for index in range(len(dataset)):
        np.testing.assert_array_equal(dataset.read(index)[1], truth["train"][dataset.name(index)])


@pytest.mark.filterwarnings(COUNTED)
def test_pascal_context_without_background(tmp_path):
    truth = layouts.pascal_context(tmp_path)
    module = PascalContextDataModule(tmp_path, classes=59, **SETTINGS)
    assert len(module.classes) == 59
    assert module.classes.names[0] == "aeroplane"
    masks = masks_of(module, "train")
    for name, raw in truth["train"].items():
        np.testing.assert_array_equal(masks[name], np.where(raw == 0, 255, raw.astype(int) - 1))
    with pytest.raises(ValueError, match=r"dataset.classes=33: choose 60.* or 59"):
        PascalContextDataModule(tmp_path, classes=33, **SETTINGS)


@pytest.mark.filterwarnings(COUNTED)
@pytest.mark.parametrize("name", ["ade20k", "cityscapes"])
def test_trainval_and_pictures_of_the_test_part(name, tmp_path):
    truth = getattr(layouts, name)(tmp_path)
    module = MODULES[name](tmp_path, train_split="trainval", **SETTINGS)
    assert len(module.dataset("train")) == len(truth["train"]) + len(truth["val"])
    assert len(module.dataset("val")) == len(truth["val"])
    test = module.dataset("test")
    assert (len(test), test.labelled) == (1, False)
    with pytest.raises(ValueError, match=rf"split=holdout: {name} has the splits train, val, test"):
        module.dataset("holdout")
    with pytest.raises(ValueError, match=r"dataset.train_split=all: choose train or trainval"):
        MODULES[name](tmp_path, train_split="all", **SETTINGS)


def test_other_numbers_than_the_published_are_named(tmp_path):
    layouts.cityscapes(tmp_path)
    with pytest.warns(UserWarning, match=r"cityscapes, train: 2 pictures, published are 2975 \(-2973\) in "):
        CityscapesDataModule(tmp_path, **SETTINGS).dataset("train")
    sizes = {name: dict(module.sizes) for name, module in MODULES.items()}
    assert sizes["ade20k"]["train"] == (20210,)
    assert sizes["ade20k"]["val"] == (2000,)
    assert sizes["pascal_context"] == {"train": (4998, 4996), "val": (5105, 5104)}
    assert (sizes["cityscapes"]["train"], sizes["cityscapes"]["val"]) == ((2975,), (500,))


@pytest.mark.filterwarnings(COUNTED)
def test_glass_masks_of_one_bit_and_linked_folders(tmp_path):
    truth = layouts.rgbt_glass(tmp_path / "real")
    for path in (tmp_path / "real").rglob("mask.png"):
        with Image.open(path) as file:
            mask = np.array(file)
        Image.fromarray(mask > 0).save(path)
    (tmp_path / "linked").mkdir()
    for part in ("train", "test"):
        (tmp_path / "linked" / part).mkdir()
        for scene in (tmp_path / "real" / part).iterdir():
            (tmp_path / "linked" / part / scene.name).symlink_to(scene)
    (tmp_path / "linked" / "train" / "again").symlink_to(tmp_path / "linked" / "train")  # a circle
    dataset = RGBTGlassDataModule(tmp_path / "linked", **SETTINGS).dataset("train")
    assert len(dataset) == len(truth["train"])
    for index in range(len(dataset)):
        np.testing.assert_array_equal(dataset.read(index)[1], truth["train"][dataset.name(index)])


@pytest.mark.parametrize("name", MODULES)
def test_without_the_data_the_command_that_gets_it_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"(?s)dataset.root=.* segmenter prepare {name} --root {tmp_path}"):
        MODULES[name](tmp_path, **SETTINGS)


@pytest.mark.filterwarnings(COUNTED)
def test_files_without_partner_are_refused(tmp_path):
    layouts.pascal_context(tmp_path)
    home = tmp_path / "VOCdevkit" / "VOC2010"
    (home / "SegmentationClassContext" / "2008_000007.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 files without a label.*2008_000007.jpg"):
        PascalContextDataModule(tmp_path, **SETTINGS).dataset("train")
    (home / "JPEGImages" / "2008_000007.jpg").unlink()  # listed, and neither is there
    with pytest.raises(FileNotFoundError, match=r"1 files without a label.*2008_000007.jpg"):
        PascalContextDataModule(tmp_path, **SETTINGS).dataset("train")
    (home / "ImageSets" / "SegmentationContext" / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"val.txt is missing: `segmenter prepare pascal_context"):
        PascalContextDataModule(tmp_path, **SETTINGS).dataset("val")


def test_a_label_outside_the_table_is_an_error(tmp_path):
    layouts.rgbt_glass(tmp_path)
    layouts.save(tmp_path / "test" / "scene5" / "0001" / "mask.png", np.full((40, 56), 128, np.uint8))
    dataset = RGBTGlassDataModule(tmp_path, **SETTINGS).dataset("val")
    index = next(i for i in range(len(dataset)) if "scene5" in dataset.name(i))
    with pytest.raises(
        ValueError, match=r"label values without a class: 128\. The classes are from the labels of rgbt_"
    ):
        dataset.read(index)


# --- class tables against the collected facts, and genuine pairs


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def color(row):
    return tuple(int(row[c]) for c in "RGB")


@pytest.mark.filterwarnings(COUNTED)
def test_class_tables_are_the_published_ones(assets, tmp_path):
    for name in ("ade20k", "pascal_context", "cityscapes"):
        getattr(layouts, name)(tmp_path / name)
        module = MODULES[name](tmp_path / name, **SETTINGS)
        facts = rows(assets / "data" / "classes" / f"{name}.csv")
        assert [int(row["id"]) for row in facts] == list(range(len(facts)))
        assert module.classes.names == tuple(row["name"].strip() for row in facts)
        assert module.classes.palette == tuple(color(row) for row in facts)
        values = {"ade20k": "label_value", "pascal_context": "id", "cityscapes": "label_id"}[name]
        assert module.ids == [int(row[values]) for row in facts]
    labels = rows(assets / "data" / "classes" / "cityscapes_labels.csv")
    table = CityscapesDataModule(tmp_path / "cityscapes", **SETTINGS).table
    raw = {int(row["label_id"]): int(row["train_id"]) for row in labels}
    assert {value: int(table[value]) for value in raw if value >= 0} == {v: t for v, t in raw.items() if v >= 0}
    assert set(table[34:255].tolist()) == {-1}


def test_genuine_ade20k_labels(assets, tmp_path):
    home = assets / "data" / "ade20k" / "ADEChallengeData2016"
    with pytest.warns(UserWarning, match="published are"):
        dataset = ADE20KDataModule(home, **SETTINGS).dataset("val")
    # objectInfo150.txt: Idx, Ratio, Train, Val, Name; the index is the label's value, the names are alternatives.
    lines = [line.split("\t") for line in (home / "objectInfo150.txt").read_text().splitlines()[1:]]
    listed = {int(line[0]): {name.strip() for name in line[-1].split(",")} for line in lines}
    assert len(listed) == len(dataset.classes) == 150
    assert all(name in listed[value] for value, name in enumerate(dataset.classes.names, start=1))
    assert len(dataset) == 3
    for index in range(len(dataset)):
        image, mask = dataset.read(index)
        with Image.open(dataset.labels[index]) as file:
            values, counts = np.unique(np.array(file), return_counts=True)
        pixels = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
        found, counts = np.unique(mask, return_counts=True)
        by_name = {"other" if k == 255 else dataset.classes.names[k]: n for k, n in zip(found, counts, strict=True)}
        assert by_name.pop("other", 0) == pixels.pop(0, 0)
        assert by_name == {dataset.classes.names[value - 1]: count for value, count in pixels.items()}
        assert image.shape[:2] == mask.shape
