import numpy as np
import pytest
import torch
from PIL import Image

from segmenter_pl.data.classes import Classes
from segmenter_pl.data.dataset import SegmentationDataset, Subset, UnreadableError
from segmenter_pl.data.pairs import PairDataset, read_label, read_picture
from segmenter_pl.data.transforms import eval_transform, train_transform

AB = Classes(("a", "b"), ((0, 0, 0), (255, 0, 0)))


class Ramp(SegmentationDataset):
    def __len__(self):
        return 5

    def read(self, index):
        image = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3) * (index + 3) % 251
        mask = (np.arange(48 * 64).reshape(48, 64) * (index + 1) % 2).astype(np.uint8)
        return image.astype(np.uint8), mask

    def name(self, index):
        return f"ramp{index}"


def training(seed=0):
    dataset = Ramp(AB)
    dataset.seed = seed
    dataset.transform = train_transform(32, 40, 4.0, (0.5, 2.0), 0.75, True, (128, 128, 128), 255)
    return dataset


def test_classes_reject_what_does_not_fit():
    with pytest.raises(ValueError, match="2 class names and 1 colours"):
        Classes(("a", "b"), ((0, 0, 0),))
    with pytest.raises(ValueError, match="more than once: a"):
        Classes(("a", "a"), ((0, 0, 0), (1, 1, 1)))
    for wrong in (1, -100, 256):
        with pytest.raises(ValueError, match=f"ignore_index={wrong} must lie in 2…255"):
            Classes(("a", "b"), ((0, 0, 0), (1, 1, 1)), ignore_index=wrong)
    with pytest.raises(ValueError, match=r"colour \(300, 0, 0\)"):
        Classes(("a",), ((300, 0, 0),))
    with pytest.raises(ValueError, match="0 class names"):
        Classes((), ())


def test_sample_of_an_index():
    dataset = Ramp(AB)
    dataset.transform = eval_transform()
    sample = dataset[2]
    image, mask = dataset.read(2)
    assert sample["index"] == 2
    assert (sample["image"].dtype, sample["mask"].dtype) == (torch.uint8, torch.uint8)
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).numpy(), image)
    np.testing.assert_array_equal(sample["mask"].numpy(), mask)


def test_sample_is_a_function_of_seed_epoch_and_index():
    dataset = training()
    once = dataset[(3, 1)]
    dataset[(0, 0)], dataset[(9, 4)]  # other samples in between change nothing
    assert torch.equal(once["image"], training()[(3, 1)]["image"])
    assert torch.equal(once["mask"], dataset[(3, 1)]["mask"])
    for other in (training()[(4, 1)], training(seed=1)[(3, 1)], training()[(3, 2)]):
        assert not torch.equal(once["image"], other["image"])


class Gradient(Ramp):
    def read(self, index):
        image = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
        return image, np.zeros((64, 64), np.uint8)


def test_flip_does_not_depend_on_the_scale():
    """albumentations' own seeding gives every step the same numbers: the flip would follow the scale."""
    dataset = Gradient(AB)
    dataset.transform = train_transform(64, 32, 4.0, (0.5, 2.0), 0.75, False, (0, 0, 0), 255)
    flipped, sizes = [], []
    for epoch in range(300):
        sample = dataset[(epoch, 0)]
        size = round(int((sample["mask"] == 0).sum()) ** 0.5)
        flipped.append(bool(sample["image"][0, 0, 0] > sample["image"][0, 0, size - 1]))
        sizes.append(size)
    assert abs(np.mean(flipped) - 0.5) < 0.1
    assert abs(np.corrcoef(flipped, sizes)[0, 1]) < 0.2


def test_subset_renumbers():
    subset = Subset(Ramp(AB), [1, 4])
    assert len(subset) == 2
    assert subset.name(1) == "ramp4"
    np.testing.assert_array_equal(subset.read(1)[0], Ramp(AB).read(4)[0])


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def test_pictures_are_rgb_and_follow_exif(tmp_path):
    red = np.zeros((10, 20, 3), np.uint8)
    red[..., 0], red[:, 10:, 2] = 200, 100
    np.testing.assert_array_equal(read_picture(save(tmp_path / "a.png", red)), red)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn clockwise
    turned = read_picture(save(tmp_path / "b.jpg", red, exif=exif, quality=95))
    assert turned.shape == (20, 10, 3)
    assert np.abs(turned.astype(int) - np.rot90(red, -1)).mean() < 10
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    np.testing.assert_array_equal(read_picture(save(tmp_path / "grey.png", grey)), np.repeat(grey[..., None], 3, 2))


def test_labels_of_every_kind_give_their_ids(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4) % 5
    np.testing.assert_array_equal(read_label(save(tmp_path / "grey.png", ids)), ids)
    palette = Image.fromarray(ids)
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    palette.save(tmp_path / "palette.png")
    with Image.open(tmp_path / "palette.png") as file:
        assert file.mode == "P"
    np.testing.assert_array_equal(read_label(tmp_path / "palette.png"), ids)
    wide = ids.astype(np.uint16) * 300
    np.testing.assert_array_equal(read_label(save(tmp_path / "wide.png", wide)), wide)
    np.testing.assert_array_equal(read_label(save(tmp_path / "binary.png", ids > 2)), ids > 2)


def test_colour_labels_are_an_error(tmp_path):
    path = save(tmp_path / "rgb.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"rgb.png has mode 'RGB'; labels must hold one class id"):
        read_label(path)


@pytest.mark.parametrize(("suffix", "reader"), [("jpg", read_picture), ("png", read_picture), ("png", read_label)])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5])
def test_damaged_files_are_named(tmp_path, suffix, reader, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = save(tmp_path / f"cut.{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=rf"cut.{suffix} (is damaged|cannot be read).*again"):
        reader(path)


def test_missing_file(tmp_path):
    with pytest.raises(UnreadableError, match=r"none\.jpg is gone"):
        read_picture(tmp_path / "none.jpg")
    with pytest.raises(UnreadableError, match=r"none\.png is gone"):
        read_label(tmp_path / "none.png")


def pair(tmp_path, image, label, classes=AB):
    table = np.full(65536, -1)
    table[:2], table[255] = [0, 1], classes.ignore_index
    paths = [save(tmp_path / "x" / "p.png", image)], [save(tmp_path / "y" / "p.png", label)]
    return PairDataset(*paths, classes, table, "classes.csv: add rows")


def test_pair_is_mapped_to_train_ids(tmp_path):
    label = np.array([[0, 1], [255, 0]], np.uint8)
    dataset = pair(tmp_path, np.zeros((2, 2, 3), np.uint8), label)
    image, mask = dataset.read(0)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, label)
    assert dataset.name(0) == "p"
    many = Classes(tuple(map(str, range(300))), ((0, 0, 0),) * 300, ignore_index=32767)
    _, mask = pair(tmp_path, image, label, many).read(0)
    assert mask.dtype == np.int16
    np.testing.assert_array_equal(mask, [[0, 1], [32767, 0]])


def test_pair_errors_name_file_and_value(tmp_path):
    image = np.zeros((2, 3, 3), np.uint8)
    with pytest.raises(ValueError, match=r"p.png is 3x2 .* its label .*p.png is 2x2"):
        pair(tmp_path, image, np.zeros((2, 2), np.uint8)).read(0)
    with pytest.raises(ValueError, match=r"y.p.png holds label values without a class: 7, 9\. .*classes.csv: add rows"):
        pair(tmp_path, image, np.array([[0, 7, 1], [9, 7, 0]], np.uint8)).read(0)
