"""`segmenter browse`: the sheet shows the first samples of a training, to the pixel."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from segmenter_pl.checking.sheet import GAP, LINE, SEAM, Sample, coloured, contact_sheet
from segmenter_pl.cli import app
from segmenter_pl.data.classes import Classes
from segmenter_pl.data.folder import FolderDataModule
from segmenter_pl.data.sampling import StreamBatchSampler
from segmenter_pl.visualize import overlay
from tests.test_check_command import IGNORED, check, make

CROP = 64
WORDS = (f"dataset.ignore_value={IGNORED}", f"dataset.crop={CROP}", "dataset.short_side=80")


def browse(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["browse", *map(str, words)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def tile(sheet: np.ndarray, place: int, columns: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture and labels of the sample at a place, where all are of one size."""
    y = GAP + place // columns * (height + LINE + GAP)
    x = GAP + place % columns * (2 * width + SEAM + GAP)
    second = x + width + SEAM
    return sheet[y : y + height, x : x + width], sheet[y : y + height, second : second + width]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "data", list("abcde"), ["x", "y"])


@pytest.mark.parametrize("seed", [0, 3])
def test_the_tiles_are_the_first_samples_of_a_training(seed: int, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheets" / "samples.png"
    code, said, told = browse(root, *WORDS, "-o", out, "--count", 7, "--columns", 3, "--seed", seed)
    assert (code, said, told) == (0, f"7 samples of data, split train → {out}\n", "")
    module = FolderDataModule(root, ignore_value=IGNORED, batch_size=7, crop=CROP, short_side=80, seed=seed)
    module.setup("fit")
    (batch,) = StreamBatchSampler(module.order(), batch_size=7, steps=1)
    sheet = pixels(out)
    assert sheet.shape[1] == 3 * (2 * CROP + SEAM + GAP) + GAP
    assert sheet.shape[0] > 3 * (CROP + LINE + GAP) + GAP
    for place, key in enumerate(batch):
        sample = module.train_set[key]
        image, mask = sample["image"].permute(1, 2, 0).numpy(), sample["mask"].numpy()
        shown, labelled = tile(sheet, place, 3, CROP, CROP)
        np.testing.assert_array_equal(shown, image)
        counts = mask != 255
        np.testing.assert_array_equal(labelled[counts], overlay(image, mask, module.classes.palette, 0.65)[counts])
        assert set(np.unique(labelled[~counts])) <= {60, 235}


def test_plain_and_other_splits_show_whole_pictures(root: Path, tmp_path: Path) -> None:
    for words, split, number in ((["--plain"], "train", 5), (["--split", "val"], "val", 2)):
        out = tmp_path / f"{split}.png"
        assert browse(root, *WORDS, *words, "-o", out, "--count", number, "--columns", 5)[0] == 0
        dataset = FolderDataModule(root, ignore_value=IGNORED, batch_size=1, crop=CROP).dataset(split)
        there = {dataset.read(index)[0].tobytes() for index in range(number)}
        sheet = pixels(out)
        assert {tile(sheet, place, 5, 96, 144)[0].tobytes() for place in range(number)} == there


def test_what_cannot_be_read_is_left_out_with_a_line(root: Path, tmp_path: Path) -> None:
    broken = root / "images/train/c.jpg"
    broken.write_bytes(broken.read_bytes()[:2000])
    out = tmp_path / "samples.png"
    code, said, told = browse(root, *WORDS, "-o", out, "--count", 4)
    assert (code, said) == (0, f"4 samples of data, split train → {out}\n")
    assert told.startswith(f"Left out: {broken} ")
    assert len(told.splitlines()) == 1
    for path in (root / "images/train").iterdir():
        path.write_bytes(b"")
    out.unlink()
    code, said, told = browse(root, *WORDS, "-o", out)
    assert (code, said) == (1, "")
    assert "Error: split=train: none of its 5 pictures can be read" in told
    assert not out.exists()


def test_mistakes_are_told_before_anything_is_written(root: Path, tmp_path: Path) -> None:
    for words, expected in (
        ([root, *WORDS, "-o", tmp_path / "samples.txt"], "give the name of a picture, ending in .png"),
        ([root, "-o", tmp_path / "samples.png"], f"holds label values without a class: {IGNORED}"),
        ([root, *WORDS, "--split", "extra"], "images/extra is not a folder"),
        ([tmp_path / "nowhere"], "is neither a folder nor a dataset"),
    ):
        code, said, told = browse(*words)
        assert (code, said) == (1, "")
        assert expected in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_drawn_scenes_can_be_browsed_and_results_have_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, told = browse("shapes", "--count", 2)
    assert (code, said, told) == (0, "2 samples of shapes, split train → check/shapes/train.png\n", "")
    assert pixels(tmp_path / "check/shapes/train.png").shape[1] == 2 * (2 * 128 + SEAM + GAP) + GAP


def test_large_pictures_are_shrunk_and_only_classes_present_have_a_legend() -> None:
    classes = Classes(tuple(f"c{k}" for k in range(300)), ((200, 0, 0), (0, 200, 0), *[(0, 0, 200)] * 298), 32767)
    wide = Sample("a name that is too long " * 9, np.full((100, 800, 3), 90, np.uint8), np.zeros((100, 800), np.int16))
    high = Sample("high", np.full((300, 50, 3), 30, np.uint8), np.full((300, 50), 1, np.int16))
    sheet = contact_sheet([wide, high], classes, columns=4, side=200)
    assert sheet.shape[:2] == (GAP + 200 + LINE + GAP + LINE + GAP, 2 * (2 * 200 + SEAM + GAP) + GAP)
    assert (sheet[GAP : GAP + 25, GAP : GAP + 200] == 90).all()
    legend = sheet[-LINE - GAP :].reshape(-1, 3)
    assert (legend == (200, 0, 0)).all(1).any()
    assert (legend == (0, 200, 0)).all(1).any()
    assert not (legend == (0, 0, 200)).all(1).any()
    hatched = coloured(Sample("", wide.image, np.full((100, 800), 32767, np.int16)), classes)
    assert set(np.unique(hatched)) == {60, 235}


def test_camvid_as_in_the_manual(assets: Path, tmp_path: Path) -> None:
    words = ("dataset.ignore_value=11", "dataset.crop=256", "dataset.short_side=360", "-o", tmp_path / "camvid.jpg")
    assert browse(assets / "data/camvid", *words, "--count", 2)[0] == 0
    assert pixels(tmp_path / "camvid.jpg").shape[1] == 2 * (2 * 256 + SEAM + GAP) + GAP


def test_check_and_browse_explain_themselves() -> None:
    for command, expected in (("check", "dataset.ignore_value=11"), ("browse", "without augmentation")):
        done = CliRunner().invoke(app, [command, "--help"])
        assert done.exit_code == 0
        assert "DATASET|ROOT" in done.stdout
        assert expected in done.stdout
    assert check()[0] == 2
