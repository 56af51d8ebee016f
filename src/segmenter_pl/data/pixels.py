"""What the augmentations do with pixels: quick, and bit by bit what the plain way gives."""

import cv2
import numpy as np


def resized_corner(image: np.ndarray, size: tuple[int, int], height: int, width: int) -> np.ndarray:
    """cv2.resize(image, size)[:height, :width], with the same bits; `size` is (width, height) of the whole.

    Told factors instead of a size, OpenCV keeps to them for a part that starts at the top left, too.
    """
    factors = (size[0] / image.shape[1], size[1] / image.shape[0])
    columns = min(int(width / factors[0]) + 3, image.shape[1])
    rows = min(int(height / factors[1]) + 3, image.shape[0])
    if (round(columns * factors[0]), round(rows * factors[1])) == (columns, rows):  # OpenCV would just copy such a part
        return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)[:height, :width]
    part = cv2.resize(image[:rows, :columns], None, fx=factors[0], fy=factors[1], interpolation=cv2.INTER_LINEAR)
    return part[:height, :width]


def linear_table(alpha: float, beta: float) -> np.ndarray:
    """alpha · value + beta for the values 0…255, clipped and rounded down: (256,) uint8."""
    return np.clip(np.arange(256, dtype=np.float32) * alpha + beta, 0, 255).astype(np.uint8)


def map_hsv(img: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    """Send one channel of the HSV values (0…179, 0…255, 0…255) of an RGB picture through a table, (256,) uint8."""
    hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, channel), table), hsv, channel)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
