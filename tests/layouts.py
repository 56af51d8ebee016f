"""Tiny data sets in the official layouts, with the train ids that a reader has to find."""

from pathlib import Path

import numpy as np
from PIL import Image

IGNORED = 255
Truth = dict[str, dict[str, np.ndarray]]  # split → name of the picture → train ids (H, W)

# Label ids of Cityscapes by train id, from the dataset's own table (labels.py of its scripts).
CITYSCAPES_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def picture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Smooth colours, so that JPEG keeps them roughly."""
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR))


def blocks(rng: np.random.Generator, size: tuple[int, int], values: list[int]) -> np.ndarray:
    """(H, W) uint8 in squares of 8 pixels, each of a value."""
    coarse = rng.choice(np.array(values, np.uint8), (-(-size[0] // 8), -(-size[1] // 8)))
    return np.kron(coarse, np.ones((8, 8), np.uint8))[: size[0], : size[1]]


def ade20k(root: Path, train: int = 4, val: int = 2, size: tuple[int, int] = (40, 56)) -> Truth:
    """ADEChallengeData2016 with label values 0…150, and release_test with one picture."""
    rng, truth = np.random.default_rng(0), {}
    home = root / "ADEChallengeData2016"
    for split, folder, stem, count in (("train", "training", "train", train), ("val", "validation", "val", val)):
        truth[split] = {}
        for number in range(1, count + 1):
            name = f"ADE_{stem}_{number:08d}"
            raw = blocks(rng, size, [0, 1, 2, 77, 150])
            save(home / "images" / folder / f"{name}.jpg", picture(rng, size))
            save(home / "annotations" / folder / f"{name}.png", raw)
            truth[split][name] = raw - 1  # uint8: 0 becomes 255
    save(root / "release_test" / "testing" / "ADE_test_00000001.jpg", picture(rng, size))
    return truth


def pascal_context(root: Path, size: tuple[int, int] = (40, 56)) -> Truth:
    """VOCdevkit/VOC2010 with converted labels 0…59, their lists, and a picture that is in no list."""
    rng, truth = np.random.default_rng(1), {}
    home = root / "VOCdevkit" / "VOC2010"
    for split, names in (("train", ["2008_000002", "2008_000007"]), ("val", ["2008_000003"])):
        truth[split] = {}
        for name in names:
            truth[split][name] = raw = blocks(rng, size, [0, 1, 37, 59])
            save(home / "JPEGImages" / f"{name}.jpg", picture(rng, size))
            save(home / "SegmentationClassContext" / f"{name}.png", raw)
        (home / "ImageSets" / "SegmentationContext").mkdir(parents=True, exist_ok=True)
        (home / "ImageSets" / "SegmentationContext" / f"{split}.txt").write_text("\n".join(names) + "\n")
    save(home / "JPEGImages" / "2009_999999.jpg", picture(rng, size))
    return truth


def cityscapes(root: Path, size: tuple[int, int] = (32, 64), kind: str = "labelIds") -> Truth:
    """leftImg8bit and gtFine with labels of `kind` (labelIds or labelTrainIds), and a picture of the test part."""
    rng, truth = np.random.default_rng(2), {}
    for split, places in (("train", ["aachen_000000_000019", "ulm_000001_000019"]), ("val", ["lindau_000000_000019"])):
        truth[split] = {}
        for place in places:
            stem = Path(split, place.split("_")[0], place).as_posix()
            ids = blocks(rng, size, [0, 3, 4, 7, 8, 9, 23, 26, 29, 33])
            train_ids = np.select([ids == value for value in CITYSCAPES_IDS], list(range(19)), IGNORED).astype(np.uint8)
            save(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", picture(rng, size))
            save(root / "gtFine" / f"{stem}_gtFine_{kind}.png", ids if kind == "labelIds" else train_ids)
            save(root / "gtFine" / f"{stem}_gtFine_instanceIds.png", ids)
            truth[split][f"{place.split('_')[0]}/{place}_leftImg8bit"] = train_ids
    save(root / "leftImg8bit" / "test" / "berlin" / "berlin_000000_000019_leftImg8bit.png", picture(rng, size))
    save(root / "gtFine" / "test" / "berlin" / "berlin_000000_000019_gtFine_labelIds.png", np.zeros(size, np.uint8))
    return truth


def rgbt_glass(root: Path, size: tuple[int, int] = (40, 56)) -> Truth:
    """train and test with rgb.png, mask.png (0 and 255) and what else lies there; one scene without glass."""
    rng, truth = np.random.default_rng(3), {}
    scenes = {"train": ["scene1/0001", "scene1/0002", "noglass2/0001"], "test": ["scene5/0001", "noglass7/0003"]}
    for folder, samples in scenes.items():
        found = truth["val" if folder == "test" else folder] = {}
        for sample in samples:
            raw = blocks(rng, size, [0] if "noglass" in sample else [0, 255])
            save(root / folder / sample / "rgb.png", picture(rng, size))
            save(root / folder / sample / "mask.png", raw)
            save(root / folder / sample / "boundary.png", raw)
            np.save(root / folder / sample / "temperature.npy", np.zeros(size, np.float32))
            found[f"{sample}/rgb"] = raw // 255
    return truth
