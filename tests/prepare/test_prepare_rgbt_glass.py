"""`segmenter prepare rgbt_glass`: one zip, whatever its folders are called."""

import os
from pathlib import Path

import numpy as np
import pytest

from segmenter_pl.data.rgbt_glass import RGBTGlassDataModule
from segmenter_pl.prepare import rgbt_glass
from segmenter_pl.prepare.recipe import merge
from tests import layouts
from tests.packing import prepare, tree_of, zipped
from tests.serving import LOGIN_PAGE, serving


def make(folder: Path, top: str) -> Path:
    layouts.rgbt_glass(folder / "tree" / top)
    return zipped(folder / "my download.zip", folder / "tree", top or ".", more={"readme.txt": b"read me"})


@pytest.mark.parametrize("top", ["", "RGB-T-glass", "data/RGBT_Glass v2"])
def test_folders_around_it_do_not_matter(tmp_path: Path, top: str) -> None:
    root = tmp_path / "glass"
    code, said, told = prepare("rgbt_glass", "--root", root, "--source", make(tmp_path, top))
    assert code == 0
    assert "Huo" in said
    assert f"rgbt_glass is in {root}: 3 train, 2 val pictures" in said
    assert "5 pictures in all, published are 5551 (-5546)" in told
    data = RGBTGlassDataModule(root, batch_size=1, crop=32)
    for split, masks in layouts.rgbt_glass(tmp_path / "truth").items():
        dataset = data.dataset(split)
        assert len(dataset) == len(masks)
        for k, name in enumerate(sorted(masks)):
            assert dataset.pictures[k].as_posix().endswith(f"{name}.png")
            np.testing.assert_array_equal(dataset.read(k)[1], masks[name])
    assert {"train", "test"} <= {path.name for path in root.iterdir()}


def test_moving_can_break_off_between_its_two_folders(tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        layouts.rgbt_glass(tmp_path / name / "top")
    rgbt_glass.arrange({"zip": tmp_path / "whole"}, tmp_path / "tree")
    (tmp_path / "cut").mkdir()
    os.rename(tmp_path / "broken/top/test", tmp_path / "cut/test")
    for _ in range(2):
        rgbt_glass.arrange({"zip": tmp_path / "broken"}, tmp_path / "cut")
        assert tree_of(tmp_path / "cut") == tree_of(tmp_path / "tree")


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    other = zipped(tmp_path / "other.zip", tmp_path, more={"train/a.png": b"x"})
    code, _, told = prepare("rgbt_glass", "--root", tmp_path / "glass", "--source", other)
    assert code == 1
    assert "the archive holds no folder with train and test in it" in told


def test_drives_page_in_place_of_the_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(files={"/RGB-T-glass.zip": LOGIN_PAGE}) as site:
        code, _, told = prepare("rgbt_glass", "--root", tmp_path / "glass", "--source", site.address)
    assert code == 1
    assert "gives a web page instead of RGB-T-glass.zip: By hand: download https://drive.google.com/file/d/" in told


def test_an_own_copy_counts_as_complete_by_the_number_of_all_pairs(tmp_path: Path) -> None:
    layouts.rgbt_glass(tmp_path / "one")
    merge(tmp_path / "one", tmp_path / "glass")
    code, _, told = prepare("rgbt_glass", "--root", tmp_path / "glass")
    assert code == 1
    assert "5 pictures in all, published are 5551" in told
