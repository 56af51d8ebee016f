"""Sliding windows against an independent, window-by-window computation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segmenter_pl.inference import predict_labels, predict_logits, window_anchors


class Probe:
    """A model whose logits depend on the pixel and on its place in the window, so that a wrong window shows."""

    num_classes = 3
    stride = 1
    pixel_mean = (0.0, 0.0, 0.0)

    def __call__(self, images: Tensor) -> Tensor:
        ramp = torch.linspace(0, 1, images.shape[-1])
        return torch.stack([images[:, 0], images[:, 1] * ramp, images[:, 2] + ramp[:, None]], dim=1)

    coarse_logits = __call__


def plain(image: Tensor, window: int, stride: int, size: tuple[int, int]) -> Tensor:
    """Every place where a window may stand, one at a time, in float64."""
    height, width = image.shape[-2:]
    picture = F.interpolate(image[None].double(), size=size, mode="bilinear", align_corners=False)[0]
    total, count = torch.zeros(3, *size, dtype=torch.float64), torch.zeros(size)
    for y in range(size[0] - window + 1):
        for x in range(size[1] - window + 1):
            stands_y = y == size[0] - window or (y % stride == 0)
            stands_x = x == size[1] - window or (x % stride == 0)
            if stands_y and stands_x:
                crop = picture[:, y : y + window, x : x + window]
                total[:, y : y + window, x : x + window] += Probe()(crop[None].float())[0]
                count[y : y + window, x : x + window] += 1
    return F.interpolate((total / count)[None], size=(height, width), mode="bilinear", align_corners=False)[0]


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


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "short_side", "size"),
    [
        (20, 30, 16, 7, None, (20, 30)),
        (16, 16, 16, 16, None, (16, 16)),
        (9, 21, 16, 8, None, (16, 37)),  # enlarged to the window: 21·16/9 = 37.3
        (20, 31, 8, 8, 10, (10, 16)),  # 31/2 = 15.5
        (20, 30, 16, 16, 8, (16, 24)),  # short_side below the window
    ],
)
def test_logits_equal_plain_averaging(
    height: int, width: int, window: int, stride: int, short_side: int | None, size: tuple[int, int]
) -> None:
    image = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = plain(image, window, stride, size)
    for window_batch in (1, 3, 100):
        logits = predict_logits(
            Probe(), image, window=window, stride=stride, short_side=short_side, window_batch=window_batch
        )
        assert logits.shape == (3, height, width)
        torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-4)
    labels = predict_labels(Probe(), image, window=window, stride=stride, short_side=short_side)
    assert torch.equal(labels, logits.argmax(0))


def test_stride_beyond_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stride=9.*window=8"):
        predict_logits(Probe(), torch.zeros(3, 20, 20), window=8, stride=9)
