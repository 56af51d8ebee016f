"""Sliding windows, scales and mirrors against an independent, window-by-window computation at full size."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segmenter_pl import load_segmenter
from segmenter_pl.inference import (
    SCALES,
    predict_bands,
    predict_labels,
    predict_logits,
    predict_probabilities,
    window_anchors,
)
from segmenter_pl.ops.bands import banded_scores


class Probe:
    """A model of stride P whose logits depend on the cell's pixels and on its place in the window."""

    pixel_mean = (0.0, 0.0, 0.0)

    def __init__(self, stride: int = 4, num_classes: int = 3) -> None:
        self.stride, self.num_classes = stride, num_classes
        self.weight = torch.randn(num_classes, 4, generator=torch.Generator().manual_seed(0)) / 50

    def coarse_logits(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        missing = (0, -width % self.stride, 0, -height % self.stride)
        cells = F.avg_pool2d(F.pad(images.float(), missing), self.stride)  # (B, 3, h, w)
        place = torch.linspace(0, 99, cells.shape[2])[:, None] - torch.linspace(0, 50, cells.shape[3])
        place = place.to(cells).expand(len(cells), 1, -1, -1)
        return torch.einsum("kc,bchw->bkhw", self.weight.to(cells), torch.cat([cells, place], 1))

    def __call__(self, images: Tensor) -> Tensor:
        full = F.interpolate(self.coarse_logits(images), scale_factor=self.stride, mode="bilinear")
        return full[..., : images.shape[-2], : images.shape[-1]]


def plain(
    model: Probe,
    image: Tensor,
    window: int,
    stride: int,
    sizes: list[list[tuple[int, int]]],
    flip: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Iterator[Tensor]:
    """Logits (K, H, W) of each version, window by window, at full size. `sizes`: the resizings of each scale."""
    for steps in sizes:
        for mirrored in (False, True) if flip else (False,):
            picture = image.to(dtype).flip(-1) if mirrored else image.to(dtype)
            for size in steps:
                picture = F.interpolate(picture[None], size=size, mode="bilinear", align_corners=False)[0]
            height, width = picture.shape[-2:]
            total = torch.zeros(model.num_classes, height, width, dtype=dtype)
            count = torch.zeros(height, width)
            for y in {*range(0, height - window, stride), height - window}:
                for x in {*range(0, width - window, stride), width - window}:
                    crop = picture[None, :, y : y + window, x : x + window]
                    total[:, y : y + window, x : x + window] += model(crop.float())[0]
                    count[y : y + window, x : x + window] += 1
            total /= count
            full = F.interpolate(total[None], size=tuple(image.shape[-2:]), mode="bilinear")[0]
            del total
            yield full.flip(-1) if mirrored else full


def noise(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [  # from the official code: reference §6.1
        (683, 512, 512, [0, 171]),
        (1024, 512, 512, [0, 512]),
        (1025, 512, 512, [0, 512, 513]),
        (2048, 768, 512, [0, 512, 1024, 1280]),
        (520, 480, 320, [0, 40]),
        (512, 512, 512, [0]),
    ],
)
def test_anchors(length: int, window: int, stride: int, expected: list[int]) -> None:
    assert window_anchors(length, window, stride) == expected


@pytest.mark.parametrize("patch", [1, 4, 5])  # 16 and 8 are no multiples of 5
@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "short_side", "steps"),
    [
        (20, 30, 16, 7, None, []),
        (16, 16, 16, 16, None, []),
        (9, 21, 16, 8, None, [(16, 37)]),  # enlarged to the window: 21·16/9 = 37.3
        (20, 31, 8, 8, 10, [(10, 16)]),  # 31/2 = 15.5
        (20, 30, 16, 16, 8, [(8, 12), (16, 24)]),  # short_side below the window
        (1, 40, 8, 8, None, [(8, 320)]),
        (33, 2, 8, 3, None, [(132, 8)]),
    ],
)
def test_logits_equal_plain_averaging(
    patch: int, height: int, width: int, window: int, stride: int, short_side: int | None, steps: list[tuple[int, int]]
) -> None:
    image, model = noise(height, width), Probe(patch)
    (expected,) = plain(model, image, window, stride, [steps])
    for window_batch in (1, 3, 100):
        settings = {"window": window, "stride": stride, "short_side": short_side, "window_batch": window_batch}
        logits = predict_logits(model, image, **settings)
        assert logits.shape == (3, height, width)
        torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(predict_labels(model, image, **settings), logits.argmax(0))
    torch.testing.assert_close(predict_probabilities(model, image, **settings), logits.softmax(0))


@pytest.mark.parametrize("short_side", [None, 27])
def test_scales_and_mirrors_equal_plain_averaging(short_side: int | None) -> None:
    height, width, window, stride = 37, 53, 16, 11
    image, model = noise(height, width), Probe(4, 5)
    base = 1.0 if short_side is None else short_side / height
    sizes: list[list[tuple[int, int]]] = []
    for scale in (0.25, 0.75, 1.0, 1.75):
        size = int(height * base * scale + 0.5), int(width * base * scale + 0.5)
        short = min(size)
        sizes.append(
            [size] if short >= window else [size, (int(size[0] / short * window), int(size[1] / short * window))]
        )
    expected = sum(logits.softmax(0) for logits in plain(model, image, window, stride, sizes, flip=True)) / 8
    settings = {"window": window, "stride": stride, "short_side": short_side}
    settings |= {"scales": (0.25, 0.75, 1.0, 1.75), "flip": True}
    for window_batch in (1, 7, 1000):
        found = predict_probabilities(model, image, window_batch=window_batch, **settings)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(predict_labels(model, image, **settings), found.argmax(0))
    torch.testing.assert_close(predict_logits(model, image, **settings).softmax(0), found)


def test_tiles_cover_each_pixel_once_and_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    image, model, settings = noise(45, 61), Probe(4), {"window": 16, "stride": 9, "scales": (1.0, 1.5)}
    expected = predict_probabilities(model, image, **settings)
    for tile in ((1, 1), (7, 13), (1000, 1000)):
        monkeypatch.setattr("segmenter_pl.inference.banded_scores", lambda views, tile=tile: banded_scores(views, tile))
        seen, found = torch.zeros(45, 61), torch.zeros(3, 45, 61)
        for rows, columns, scores in predict_bands(model, image, **settings):
            assert scores.shape[0] <= tile[0]
            assert scores.shape[1] <= tile[1]
            seen[rows, columns] += 1
            found[:, rows, columns] = scores.permute(2, 0, 1)
        assert bool((seen == 1).all())
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_autocast_does_not_round_the_averaging() -> None:
    image, model, settings = noise(40, 40), Probe(4), {"window": 32, "stride": 20}
    with torch.autocast("cpu", torch.bfloat16):
        found = predict_logits(model, image, **settings)
    (expected,) = plain(model, image, 32, 20, [[]])
    # The model's own arithmetic may be rounded (here none of it is a matrix product but one), the averaging may not.
    assert found.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        coarse = model.coarse_logits(image[None, :, :32, :32].float()).float()
    first = F.interpolate(coarse, scale_factor=4, mode="bilinear")[0][:, :8, :8]  # covered by one window only
    torch.testing.assert_close(found[:, :8, :8], first, rtol=1e-6, atol=1e-6)
    assert (found - expected).abs().max() > 1e-5


@pytest.mark.parametrize("case", ["vit_p16_linear", "vit_p16_mask", "vit_p8_linear", "deit_p16_mask"])
def test_golden_probabilities_of_the_official_code(case: str, assets: Path) -> None:
    folder = assets / "golden/official" / case
    expected, model = np.load(folder / "expected.npz"), load_segmenter(folder)
    image = torch.from_numpy(expected["window_input"])[0]
    window, stride = (int(number) for number in expected["window_size_stride"])
    single = predict_probabilities(model, image, window=window, stride=stride)
    np.testing.assert_allclose(single, expected["window_probs_single_scale"], rtol=0, atol=1e-5)
    many = predict_probabilities(model, image, window=window, stride=stride, scales=SCALES, flip=True)
    np.testing.assert_allclose(many, expected["window_probs_multi_scale_flip"], rtol=0, atol=1e-5)


def test_wrong_settings_are_refused() -> None:
    image = torch.zeros(3, 20, 20)
    with pytest.raises(ValueError, match=r"stride=9.*window=8"):
        predict_logits(Probe(), image, window=8, stride=9)
    for scales in ((), (1.0, 0.0)):
        with pytest.raises(ValueError, match="give one or more positive numbers"):
            predict_labels(Probe(), image, window=8, stride=8, scales=scales)
