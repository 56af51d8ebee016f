"""The two matrices of a view: sums, bounds, and a 2-megapixel picture against full-size averaging."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from segmenter_pl.inference import SCALES, TooLongError, predict_bands, predict_labels, window_anchors
from segmenter_pl.ops import bands, best_class
from segmenter_pl.ops.bands import mixing_matrix, tile_size
from segmenter_pl.ops.upsample import resized_part
from tests.test_inference import Probe, noise, plain

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("size", "seen"), [(50, 50), (50, 83), (83, 50), (1, 16), (300, 16)])
def test_each_pixel_is_an_average_of_cells(size: int, seen: int) -> None:
    anchors = tuple(window_anchors(seen, 16, 7))
    weights = mixing_matrix(size, seen, anchors, 16, 5)
    assert weights.shape == (size, len(anchors) * 4)
    assert float(weights.min()) >= 0
    torch.testing.assert_close(weights.sum(1), torch.ones(size))
    assert int((weights != 0).sum(1).max()) <= 4 * 3  # at most three windows of 16 cover a pixel at a stride of 7


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_parts_of_a_resized_picture_equal_those_of_the_whole(dtype: torch.dtype) -> None:
    picture = noise(37, 29).to(dtype)
    for height, width in ((37, 29), (80, 11), (5, 200), (1, 1)):
        whole = F.interpolate(picture[None].double(), size=(height, width), mode="bilinear")[0].float()
        for start, stop in ((0, height), (height // 3, height // 3 + 1), (height - 1, height)):
            part = resized_part(resized_part(picture, 1, height, start, stop), 2, width)
            torch.testing.assert_close(part, whole[:, start:stop], rtol=1e-6, atol=1e-4)


def test_tiles_suit_cache_and_width() -> None:
    for num_classes, width in ((150, 4000), (2, 40), (1000, 10000)):
        rows, columns = tile_size(num_classes, width, torch.device("cpu"))
        assert columns <= min(width, 256)
        assert rows == 4 or rows * columns * num_classes <= 2**19


def test_a_picture_too_long_for_its_width_is_refused() -> None:
    for height, width in ((1, 9000), (9000, 1), (1, 1500)):  # the last one for its rows of windows
        with pytest.raises(TooLongError, match=f"{width}x{height} pixels is too long for its width"):
            next(predict_bands(Probe(16), noise(height, width), window=512, stride=512))


def test_a_second_picture_needs_no_new_matrices() -> None:
    bands._cached_mixing.cache_clear()
    for _ in range(2):
        list(predict_bands(Probe(16), noise(90, 120), window=32, stride=24, scales=SCALES, flip=True))
        misses = bands._cached_mixing.cache_info().misses
        assert misses == 12  # six scales, two sides


@pytest.mark.parametrize("several", [False, True])
def test_labels_are_the_highest_scores(several: bool) -> None:
    model, image = Probe(4, 5), noise(45, 61)
    settings: dict[str, Any] = {"window": 16, "stride": 9, "flip": several}
    labels = predict_labels(model, image, **settings)
    for rows, columns, scores in predict_bands(model, image, **settings):
        assert torch.equal(labels[rows, columns], scores.argmax(-1))
        for layout in (scores, scores[::2, 1:]):  # as it is, and not contiguous
            assert torch.equal(best_class(layout), layout.argmax(-1))


@pytest.mark.slow
@pytest.mark.parametrize(("many", "limit"), [(False, 1.5), (True, 2.0)])
def test_twelve_megapixels_fit(many: bool, limit: float) -> None:
    """Seg-T, 150 classes: peak of a process' memory in GB. Full-size logits at scale 1.75 alone would be 22 GB."""
    view = "6 scales, flip" if many else "single scale"
    command = [sys.executable, "benchmarks/inference.py", "12", view, "0"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=settings, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[1] < limit


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
def test_two_megapixels_of_150_classes(many: bool) -> None:
    """Probabilities within 1e-5 of the plain way; labels differ only where two classes are that close."""
    height, width = 1024, 2048
    image, model = noise(height, width), Probe(16, 150)
    scales, flip = (SCALES, True) if many else ((1.0,), False)
    sizes = [[(int(height * scale + 0.5), int(width * scale + 0.5))] for scale in scales]
    expected = torch.zeros(150, height, width)
    for logits in plain(model, image, 512, 512, sizes, flip, torch.float32):
        expected += logits.softmax(0) / (len(scales) * (2 if flip else 1))
    differ = 0
    for rows, columns, scores in predict_bands(model, image, window=512, stride=512, scales=scales, flip=flip):
        found = scores if many else scores.softmax(-1)
        truth = expected[:, rows, columns].permute(1, 2, 0)
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-5)
        other = found.argmax(-1) != truth.argmax(-1)
        differ += int(other.sum())
        gap = truth[other].amax(-1) - truth[other].gather(-1, found.argmax(-1)[other][:, None])[:, 0]
        assert bool((gap < 1e-5).all())
    print(f"{differ} of {height * width} labels differ, all of them ties to 1e-5")
