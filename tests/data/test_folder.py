import numpy as np
import pytest
from PIL import Image

from segmenter_pl.data.classes import distinct_colors, read_classes
from segmenter_pl.data.folder import FolderDataModule

SETTINGS = {"batch_size": 2, "crop": 32}
CSV = "id,name,R,G,B\n7,road,1,2,3\n3,sky,4,5,6\n9,void,0,0,0\n"


def save(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    if palette:
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    picture.save(path)


@pytest.fixture
def root(tmp_path):
    """Two training pairs, one in a subfolder, and one for validation; grey and palette labels with ids 3, 7, 9, 255."""
    rng = np.random.default_rng(0)
    for name, suffix in (("train/b", "png"), ("train/a/c", "JPG"), ("val/d", "bmp")):
        save(tmp_path / "images" / f"{name}.{suffix}", rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
        label = rng.choice(np.array([3, 7, 9, 255], np.uint8), (20, 30))
        save(tmp_path / "labels" / f"{name}.png", label, palette=name == "train/b")
    (tmp_path / "classes.csv").write_text(CSV)
    (tmp_path / "images" / "train" / "notes.txt").write_text("no picture")
    (tmp_path / "images" / "train" / "._b.png").write_text("left by macOS")
    return tmp_path


def raw_label(root, name):
    with Image.open(root / "labels" / f"{name}.png") as file:
        return np.array(file)


def test_pairs_are_found_in_subfolders_and_sorted(root):
    dataset = FolderDataModule(root, ignore_value=9, **SETTINGS).dataset("train")
    pairs = zip(dataset.pictures, dataset.labels, strict=True)
    assert [(p.relative_to(root).as_posix(), q.relative_to(root).as_posix()) for p, q in pairs] == [
        ("images/train/a/c.JPG", "labels/train/a/c.png"),
        ("images/train/b.png", "labels/train/b.png"),
    ]


def test_ids_become_train_ids_in_order(root):
    module = FolderDataModule(root, ignore_value=9, **SETTINGS)
    assert module.classes.names == ("sky", "road")
    assert module.classes.palette == ((4, 5, 6), (1, 2, 3))
    dataset = module.dataset("train")
    assert [dataset.name(index) for index in range(len(dataset))] == ["a/c", "b"]
    for index, name in enumerate(["train/a/c", "train/b"]):
        raw = raw_label(root, name)
        mask = dataset.read(index)[1]
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, np.select([raw == 3, raw == 7], [0, 1], 255))


def test_label_map_comes_first(root):
    raw = raw_label(root, "val/d")
    module = FolderDataModule(root, ignore_value=[9], label_map={3: 9, 7: 3}, **SETTINGS)
    np.testing.assert_array_equal(module.dataset("val").read(0)[1], np.select([raw == 7], [0], 255))


def test_255_may_be_a_class(root):
    (root / "classes.csv").write_text("id,name\n3,sky\n7,road\n9,void\n255,car\n")
    raw = raw_label(root, "val/d")
    module = FolderDataModule(root, **SETTINGS)
    mask = module.dataset("val").read(0)[1]
    np.testing.assert_array_equal(mask, np.searchsorted([3, 7, 9, 255], raw))
    assert len(set(module.classes.palette)) == 4  # colours were made up


def test_many_classes_with_wide_labels(root):
    (root / "classes.csv").write_text("id,name\n" + "".join(f"{2 * k},c{k}\n" for k in range(400)))
    label = np.arange(600, dtype=np.uint16).reshape(20, 30) // 2 * 2
    save(root / "labels" / "val" / "d.png", label)
    module = FolderDataModule(root, **SETTINGS)
    mask = module.dataset("val").read(0)[1]
    assert mask.dtype == np.int16
    np.testing.assert_array_equal(mask, label // 2)


def test_other_split_names_and_classes_file(root):
    (root / "classes.csv").rename(root / "other.csv")
    (root / "images" / "val").rename(root / "images" / "test")
    (root / "labels" / "val").rename(root / "labels" / "test")
    module = FolderDataModule(root, classes_file=root / "other.csv", val_split="test", **SETTINGS)
    assert len(module.dataset("val")) == len(module.dataset("test")) == 1


def test_made_up_colours_are_distinct():
    assert len(set(distinct_colors(255))) == 255
    assert distinct_colors(20)[:10] == distinct_colors(10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id;name\n1;a\n", r"has the header 'id;name'; it must be id,name"),
        ("", r"has the header ''"),
        ("id,name\n1,a\n1,b\n", r"ids more than once: \[1\]"),
        ("id,name\n1,a\n2,a\n", r"more than once: a"),
        ("id,name\nx,a\n", r"whole numbers.*'x'"),
        ("id,name\n1\n", r"every row needs a name"),
        ("id,name,R,G,B\n1,a,1,2\n", r"whole numbers"),
        ("id,name\n-1,a\n", r"\[-1\]; use 0…65535"),
        ("id,name\n", r"0 class names"),
    ],
)
def test_wrong_class_files_are_named(tmp_path, text, message):
    path = tmp_path / "classes.csv"
    path.write_text(text, encoding="utf-8-sig")
    with pytest.raises(ValueError, match=rf"classes.csv.*{message}"):
        read_classes(path)


def test_missing_parts_name_the_setting(root):
    with pytest.raises(FileNotFoundError, match=r"dataset.root=.*nowhere.*images/<split>"):
        FolderDataModule(root / "nowhere", **SETTINGS)
    with pytest.raises(FileNotFoundError, match=r"images.test is not a folder: set dataset.root.*val_split"):
        FolderDataModule(root, val_split="test", **SETTINGS).dataset("test")
    (root / "images" / "empty").mkdir()
    (root / "labels" / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no pictures of split=empty in dataset.root=.*images/<split>"):
        FolderDataModule(root, **SETTINGS).dataset("empty")
    (root / "classes.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"dataset.classes_file=.*header id,name"):
        FolderDataModule(root, **SETTINGS)


def test_partners_are_needed_and_unique(root):
    label = root / "labels" / "train" / "b.png"
    data = label.read_bytes()
    label.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 files without a label.*b.png"):
        FolderDataModule(root, **SETTINGS).dataset("train")
    label.write_bytes(data)
    (root / "labels" / "train" / "e.png").write_bytes(data)
    with pytest.raises(FileNotFoundError, match=r"1 files without a picture.*e.png"):
        FolderDataModule(root, **SETTINGS).dataset("train")
    (root / "images" / "train" / "b.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"b.jpg and .*b.png would share"):
        FolderDataModule(root, **SETTINGS).dataset("train")


def test_label_errors_name_the_way_out(root):
    dataset = FolderDataModule(root, ignore_value=3, **SETTINGS).dataset("train")
    save(root / "labels" / "train" / "b.png", np.full((20, 30), 12, np.uint8))
    with pytest.raises(ValueError, match=r"b.png .*: 12\..*classes.csv: add rows.*dataset.ignore_value"):
        dataset.read(1)
    with pytest.raises(ValueError, match=r"dataset.label_map=\{12: 99\}"):
        FolderDataModule(root, label_map={7: 3, 12: 99}, **SETTINGS)


def test_camvid(assets):
    module = FolderDataModule(assets / "data" / "camvid", ignore_value=11, **SETTINGS)
    assert len(module.classes) == 11
    assert module.classes.names[0] == "sky"
    assert module.classes.names[-1] == "bicyclist"
    assert (len(module.dataset("train")), len(module.dataset("val"))) == (367, 101)
    seen = set()
    for index in range(0, 101, 10):
        image, mask = module.dataset("val").read(index)
        assert image.shape == (360, 480, 3)
        seen |= set(np.unique(mask).tolist())
    assert seen <= {*range(11), 255}
    assert len(seen) > 10
