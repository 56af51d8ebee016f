"""Decoded pictures that are kept are those that were decoded, whoever reads them and whatever happens to files."""

import multiprocessing
import os
import pickle

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

from segmenter_pl.data import cache as cache_module
from segmenter_pl.data import caching
from segmenter_pl.data.cache import RamCache
from segmenter_pl.data.caching import keep_decoded
from segmenter_pl.data.classes import Classes
from segmenter_pl.data.dataset import UnreadableError
from segmenter_pl.data.folder import FolderDataModule
from segmenter_pl.data.memory import available_memory
from segmenter_pl.data.pairs import PairDataset
from segmenter_pl.data.shapes import ShapesDataModule

SIZES = [(40, 56), (33, 21), (64, 64), (25, 37), (48, 30), (57, 41)]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGMENTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    """Six training pairs (JPEG, one turned by EXIF) and two to validate, with ids 0…4 and 255."""
    rng = np.random.default_rng(0)
    for split, sizes in (("train", SIZES), ("val", SIZES[:2])):
        for folder in ("images", "labels"):
            (tmp_path / "data" / folder / split).mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            exif = Image.Exif()
            if turned := number == 3:
                exif[0x0112] = 6
            image = rng.integers(0, 256, (width, height, 3) if turned else (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "data/images" / split / f"{number}.jpg", exif=exif)
            label = rng.choice(np.array([0, 1, 2, 3, 4, 255], np.uint8), (height, width))
            Image.fromarray(label).save(tmp_path / "data/labels" / split / f"{number}.png")
    (tmp_path / "data/classes.csv").write_text("id,name\n" + "".join(f"{k},c{k}\n" for k in range(5)))
    return tmp_path / "data"


def module(root, cache, **changes):
    return FolderDataModule(root, cache=cache, **({"batch_size": 2, "crop": 32, "short_side": 40} | changes))


def pairs(root, **changes):
    return module(root, "none", **changes).dataset("train")


def kept(dataset, kind):
    keep_decoded(kind, [(dataset, range(len(dataset)))], workers=0, processes=1)
    return dataset


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)


def forbidden(index):
    raise AssertionError("decoded again")


def batches(module, workers):
    """Everything that three epochs of training show, and two validations."""
    trainer = pl.Trainer(max_steps=9, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False)
    module.trainer, module.num_workers = trainer, workers
    module.setup("fit")
    loaders = [module.train_dataloader(), module.val_dataloader(), module.val_dataloader()]
    return [(b["index"].tolist(), b["image"], b["mask"]) for loader in loaders for b in loader]


@pytest.mark.parametrize("train_images", [None, 4])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_batches_are_the_same_bits(root, kind, workers, train_images):
    plain = batches(module(root, "none", train_images=train_images), 0)
    cached = module(root, kind, train_images=train_images)
    for _ in range(2):  # disk: the second time from the files of the first
        for one, other in zip(plain, batches(cached, workers), strict=True):
            assert one[0] == other[0]
            assert torch.equal(one[1], other[1])
            assert torch.equal(one[2], other[2])
    files = len(list((root.parent / "cache").rglob("*.raw")))
    assert files == (0 if kind == "ram" else (train_images or 6) + 2)


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("classes", [5, 300])
def test_kept_samples_are_what_was_decoded(root, kind, classes):
    (root / "classes.csv").write_text("id,name\n" + "".join(f"{k},c{k}\n" for k in range(classes)))
    dataset = kept(pairs(root), kind)
    for index in range(6):
        fresh = dataset.decode(index)
        assert_same(dataset.read(index), fresh)
        again = dataset.cache.read(index, forbidden)
        assert_same(again, fresh)
        assert fresh[1].dtype == (np.uint8 if classes == 5 else np.int16)
        again[0][:], again[1][:] = 0, 0  # the caller's own
        assert_same(dataset.cache.read(index, forbidden), fresh)


def fill(dataset, index):
    dataset.read(index)


def test_memory_is_shared_with_forks(root):
    dataset = kept(pairs(root), "ram")
    fork = multiprocessing.get_context("fork").Process(target=fill, args=(dataset, 2))
    fork.start()
    fork.join()
    assert_same(dataset.cache.read(2, forbidden), dataset.decode(2))


def fill_all(dataset):
    for index in range(6):
        dataset.read(index)


def test_processes_may_fill_a_disk_cache_together(root):
    dataset = kept(pairs(root), "disk")
    forks = [multiprocessing.get_context("fork").Process(target=fill_all, args=(dataset,)) for _ in range(4)]
    for fork in forks:
        fork.start()
    for fork in forks:
        fork.join()
        assert fork.exitcode == 0
    for index in range(6):
        assert_same(dataset.cache.read(index, forbidden), dataset.decode(index))
    assert len([path for path in dataset.cache.folder.rglob("*") if path.is_file()]) == 6


def test_a_pickled_memory_cache_is_empty():
    cache = RamCache([100, 40], np.uint8)
    sample = np.full((3, 4, 3), 7, np.uint8), np.ones((3, 4), np.uint8)
    cache.read(0, lambda index: sample)
    copy = pickle.loads(pickle.dumps(cache))
    with pytest.raises(AssertionError, match="decoded again"):
        copy.read(0, forbidden)
    assert_same(cache.read(0, forbidden), sample)


def test_samples_larger_than_their_slot_are_not_kept():
    """The file has become another one since its header was read."""
    cache = RamCache([47, 48], np.uint8)
    sample = np.full((3, 4, 3), 7, np.uint8), np.ones((3, 4), np.uint8)
    for index in (0, 1):
        assert_same(cache.read(index, lambda _: sample), sample)
    assert_same(cache.read(1, forbidden), sample)
    with pytest.raises(AssertionError, match="decoded again"):
        cache.read(0, forbidden)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_unreadable_pictures_are_not_kept(root, kind):
    data = (root / "images/train/1.jpg").read_bytes()
    (root / "images/train/1.jpg").write_bytes(data[:200])
    dataset = kept(pairs(root), kind)
    for _ in range(2):
        with pytest.raises(UnreadableError, match=r"1\.jpg is damaged"):
            dataset.read(1)
    if kind == "disk":
        (root / "images/train/1.jpg").write_bytes(data)
        assert_same(dataset.read(1), dataset.decode(1))
        (root / "images/train/1.jpg").unlink()
        with pytest.raises(UnreadableError, match=r"1\.jpg is gone"):
            dataset.read(1)


@pytest.mark.parametrize("changed", ["images/train/2.jpg", "labels/train/2.png"])
def test_a_changed_file_is_decoded_again(root, changed):
    dataset = kept(pairs(root), "disk")
    before = dataset.read(2)
    path = root / changed
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with Image.open(path) as file:
        other = Image.fromarray(np.zeros_like(np.array(file)))
    other.save(path)
    os.utime(path, ns=times)  # the size alone differs
    assert_same(dataset.read(2), dataset.decode(2))
    assert any((a != b).any() for a, b in zip(before, dataset.read(2), strict=True))
    os.utime(path, ns=(times[0], times[1] + 1))  # now the time alone
    with pytest.raises(AssertionError, match="decoded again"):
        dataset.cache.read(2, forbidden)


def test_another_meaning_of_the_labels_has_its_own_files(root):
    first = kept(pairs(root), "disk")
    second = kept(pairs(root, label_map={3: 1}), "disk")
    first.read(0)
    assert_same(second.read(0), second.decode(0))
    assert (second.read(0)[1] != first.read(0)[1]).any()
    assert kept(pairs(root), "disk").cache.folder == first.cache.folder != second.cache.folder


@pytest.mark.parametrize("damage", [b"", b"x" * 10, "half", "more", "stamp"])
def test_damaged_cache_files_are_made_again(root, damage):
    dataset = kept(pairs(root), "disk")
    whole = dataset.read(0)
    path = dataset.cache.path(0)
    data = path.read_bytes()
    broken = {"half": data[: len(data) // 2], "more": data + b"x", "stamp": b"\0" * 24 + data[24:]}
    path.write_bytes(broken.get(damage, damage))
    assert_same(dataset.read(0), whole)
    assert path.read_bytes() == data
    assert not list(path.parent.glob(".*"))  # no temporary file stays


def test_a_full_disk_is_told_once_and_does_not_matter(root, monkeypatch, cache_folder):
    dataset = kept(pairs(root), "disk")
    dataset.read(0)
    monkeypatch.setattr(cache_module, "RESERVE", 1 << 62)
    with pytest.warns(UserWarning, match=r"dataset.cache=disk: .*GB would stay free.*decoded each time"):
        assert_same(dataset.read(1), dataset.decode(1))
    for index in (1, 2, 3):  # warnings are errors
        assert_same(dataset.read(index), dataset.decode(index))
    assert_same(dataset.cache.read(0, forbidden), dataset.decode(0))
    assert len([path for path in cache_folder.rglob("*") if path.is_file()]) == 1


def test_a_cache_folder_that_cannot_be_made_does_not_matter(root, cache_folder):
    cache_folder.write_text("a file")
    dataset = kept(pairs(root), "disk")
    with pytest.warns(UserWarning, match=r"dataset.cache=disk: .*cannot be written"):
        assert_same(dataset.read(0), dataset.decode(0))


def test_room_on_the_disk_is_looked_at_first(root, monkeypatch):
    monkeypatch.setattr(caching, "RESERVE", 1 << 62)
    dataset = pairs(root)
    with pytest.warns(UserWarning, match=r"will not take all pictures.*SEGMENTER_CACHE"):
        kept(dataset, "disk")
    for index in range(6):
        dataset.read(index)
    kept(dataset, "disk")  # all are there: nothing to warn of


def test_memory_is_looked_at_first(root, monkeypatch):
    available = available_memory()
    if available is None:
        pytest.skip("the system does not say")
    assert 0 < available <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kept(pairs(root), "ram")
    needed = sum(4 * height * width for height, width in SIZES)
    with pytest.raises(ValueError, match=r"ram needs 0.00 GB in each of \d+ processes, .*dataset.cache=disk, or none"):
        keep_decoded("ram", [(pairs(root), range(6))], workers=0, processes=available // needed + 1)


def test_only_the_wanted_samples_have_room_in_memory(root):
    dataset = pairs(root)
    keep_decoded("ram", [(dataset, [1, 4])], workers=0, processes=1)
    assert dataset.cache.sizes == [0, 33 * 21 * 4, 0, 0, 48 * 30 * 4, 0]
    for index in range(6):
        assert_same(dataset.read(index), dataset.decode(index))


def test_mask_alone_is_that_of_the_sample(root):
    dataset = pairs(root)
    for index in range(6):
        np.testing.assert_array_equal(dataset.mask(index), dataset.read(index)[1])
    alone = PairDataset(dataset.pictures, None, Classes(("a", "b"), ((0, 0, 0), (1, 1, 1))), dataset.table, "")
    assert (alone.mask(0) == 255).all()
    assert_same(kept(alone, "disk").read(0), alone.decode(0))
    assert_same(alone.cache.read(0, forbidden), alone.decode(0))


def test_only_training_uses_a_cache(root):
    evaluation = module(root, "disk")
    evaluation.setup("validate")
    assert evaluation.val_set.cache is None


def test_errors_name_the_setting(root, monkeypatch):
    with pytest.raises(ValueError, match=r"dataset.cache=memory: choose none, ram or disk"):
        module(root, "memory")
    shapes = ShapesDataModule(batch_size=2, crop=32, cache="ram")
    with pytest.raises(ValueError, match=r"dataset.cache=ram keeps decoded files, and this dataset reads none"):
        shapes.setup("fit")
    monkeypatch.setattr(caching, "get_start_method", lambda allow_none: "spawn")
    with pytest.raises(ValueError, match=r"start by spawn here: set dataset.cache=disk, or dataset.num_workers=0"):
        module(root, "ram", num_workers=2).setup("fit")
    module(root, "ram", num_workers=0).setup("fit")
