"""Colours, overlays and label files."""

from pathlib import Path

import numpy as np
from PIL import Image

from segmenter_pl.visualize import colorize, overlay, panel, save_label_png

PALETTE = ((10, 20, 30), (200, 0, 100))


def test_colorize_paints_ids_and_leaves_others_black() -> None:
    labels = np.array([[0, 1], [255, -1]], dtype=np.int16)
    assert colorize(labels, PALETTE).tolist() == [[[10, 20, 30], [200, 0, 100]], [[0, 0, 0], [0, 0, 0]]]


def test_overlay_mixes_by_alpha() -> None:
    picture = np.full((1, 2, 3), 100, np.uint8)
    labels = np.array([[0, 1]])
    assert np.array_equal(overlay(picture, labels, PALETTE, alpha=0), picture)
    assert np.array_equal(overlay(picture, labels, PALETTE, alpha=1), colorize(labels, PALETTE))
    assert overlay(picture, labels, PALETTE, alpha=0.5).tolist() == [[[55, 60, 65], [150, 50, 100]]]


def test_panel_places_pictures_row_by_row_on_white() -> None:
    dark = np.zeros((2, 3, 3), np.uint8)
    sheet = panel([[dark, dark], [dark]], gap=1)
    assert sheet.shape == (2 + 2 + 3, 3 + 3 + 3, 3)
    assert (sheet[1:3, 1:4] == 0).all()
    assert (sheet[1:3, 5:8] == 0).all()
    assert (sheet[4:6, 1:4] == 0).all()
    assert (sheet[4:6, 5:8] == 255).all()


def test_label_png_reads_back_as_ids_and_shows_as_colours(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 1], [1, 0, 0]])
    path = tmp_path / "sub" / "label.png"
    save_label_png(labels, path, PALETTE)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image), labels)
        assert np.array_equal(np.array(image.convert("RGB")), colorize(labels, PALETTE))
    assert [p.name for p in path.parent.iterdir()] == ["label.png"]
