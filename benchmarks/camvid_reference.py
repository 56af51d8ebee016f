"""The CamVid recipe without this project: `python benchmarks/camvid_reference.py SEED [sgd|adamw]`.

The published model stated again in plain modules (plain.py, with full-size F.cross_entropy) and trained with a data
pipeline stated again in numpy and OpenCV with its own random numbers, as the paper's recipe and as
`experiment=camvid_seg_t16_mask` and `…_mask_adamw` describe it: 400 steps of 8 crops of 256. What it shares with the
project is the first weights and the evaluation. How far its results spread over seeds says how much a difference means.
Needs CAMVID and SEGMENTER_VIT_TINY; about ten minutes on one core with OMP_NUM_THREADS=1.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from plain import PlainSegmenter
from torch import Tensor

from segmenter_pl import create_segmenter, predict_labels
from segmenter_pl.metrics import SegmentationMetrics

STEPS, BATCH, CROP, SHORT_SIDE, VOID = 400, 8, 256, 360, 11
CLASSES = 11


def same_weights() -> PlainSegmenter:
    """With the project's pretrained and freshly drawn weights, and outputs that agree with it."""
    weights = os.environ["SEGMENTER_VIT_TINY"]
    ours = create_segmenter("vit_t16", "mask", num_classes=CLASSES, image_size=CROP, weights=weights)
    reference = PlainSegmenter(ours)
    pictures = torch.randint(0, 256, (2, 3, CROP, CROP))
    with torch.no_grad():
        torch.testing.assert_close(reference.eval()(pictures), ours.eval()(pictures), rtol=0, atol=1e-3)
    return reference.train()


def clipped(image: np.ndarray, factor: float = 1, offset: float = 0) -> np.ndarray:
    return np.clip(image.astype(np.float32) * factor + offset, 0, 255).astype(np.uint8)


def distorted(image: np.ndarray, draw: np.random.RandomState) -> np.ndarray:
    """The paper's photometric distortion of a BGR picture, as mmsegmentation 0.14 orders it."""
    if draw.randint(2):
        image = clipped(image, offset=draw.uniform(-32, 32))
    contrast_first = draw.randint(2)
    if contrast_first and draw.randint(2):
        image = clipped(image, draw.uniform(0.5, 1.5))
    for channel in (1, 0):  # saturation, hue
        if draw.randint(2):
            hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2HSV)
            if channel:
                hsv[..., 1] = clipped(hsv[..., 1], draw.uniform(0.5, 1.5))
            else:
                hsv[..., 0] = (hsv[..., 0].astype(int) + draw.randint(-18, 18)) % 180
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if not contrast_first and draw.randint(2):
        image = clipped(image, draw.uniform(0.5, 1.5))
    return image


def sample(image: np.ndarray, label: np.ndarray, draw: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """A training crop: RGB (3, 256, 256), labels (256, 256) with 255 where there is nothing."""
    scale = draw.random_sample() * 1.5 + 0.5
    long, short = max(label.shape), min(label.shape)
    factor = min(int(4 * SHORT_SIDE * scale) / long, int(SHORT_SIDE * scale) / short)
    height, width = (int(side * factor + 0.5) for side in label.shape)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
    for _ in range(11):
        y, x = draw.randint(0, max(height - CROP, 0) + 1), draw.randint(0, max(width - CROP, 0) + 1)
        box = slice(y, y + CROP), slice(x, x + CROP)
        names, counts = np.unique(label[box], return_counts=True)
        counts = counts[names != 255]
        if len(counts) > 1 and counts.max() / counts.sum() < 0.75:
            break
    image, label = image[box], label[box]
    if draw.rand() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    full, target = np.full((CROP, CROP, 3), 127.5, np.float32), np.full((CROP, CROP), 255, np.uint8)
    full[: image.shape[0], : image.shape[1]] = distorted(image, draw)[..., ::-1]
    target[: label.shape[0], : label.shape[1]] = label
    return full.transpose(2, 0, 1), target


def pairs(split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """BGR pictures and labels with 255 for void."""
    root, found = Path(os.environ["CAMVID"]), []
    for path in sorted((root / "images" / split).glob("*.jpg")):
        label = np.array(Image.open(root / "labels" / split / f"{path.stem}.png"))
        found.append((cv2.imread(str(path)), np.where(label == VOID, 255, label).astype(np.uint8)))
    return found


def batches(draw: np.random.RandomState) -> Iterator[tuple[Tensor, Tensor]]:
    data = pairs("train")
    while True:
        order = draw.permutation(len(data))
        for start in range(0, len(data), BATCH):
            images, labels = zip(*(sample(*data[i], draw) for i in order[start : start + BATCH]), strict=True)
            yield torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels)).long()


def main(seed: int, recipe: str = "adamw") -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model = same_weights()
    if recipe == "adamw":
        rate, optimizer = 3e-4, torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    else:
        rate, optimizer = 1e-3, torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True)
    for step, (images, labels) in zip(range(STEPS), batches(np.random.RandomState(seed)), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = (rate - 1e-5) * (1 - step / STEPS) ** 0.9 + 1e-5
        loss = F.cross_entropy(model(images), labels, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            print(f"step {step + 1}: loss {loss.item():.4f}", file=sys.stderr, flush=True)
    metrics = SegmentationMetrics(CLASSES)
    for image, label in pairs("val"):
        picture = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
        metrics.update(predict_labels(model.eval(), picture, window=CROP, stride=192), torch.from_numpy(label))
    values = metrics.compute()
    by_class = " ".join(f"{iou:.2f}" for iou in values["iou"].tolist())
    print(f"{recipe}, seed {seed}: val mIoU {float(values['miou']):.4f}; by class {by_class}")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
