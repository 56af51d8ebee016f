"""Training samples against MMSegmentation's steps: `python benchmarks/pipeline.py [ADEChallengeData2016]`.

Prints a table: samples per second of process CPU time, one thread, medians of alternating runs, with glibc's default
malloc and with one that keeps large blocks (page faults flatter the lean code). The reference is re-stated in plain
OpenCV and NumPy: 0.x is what the paper's code ran, and normalises; 1.x leaves that to the device, as this project does.
All end with contiguous tensors (3, H, W). The pictures are six pairs of ADE20K, in $SEGMENTER_TEST_ASSETS/data/ade20k
if no folder is given: JPEGs of 683×512 (others are resized) and, enlarged and with noise, PNGs of 2048×1024 as in
Cityscapes. Caches are warm, and compared with the reference's decoding and augmentation.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from segmenter_pl.data.caching import keep_decoded
from segmenter_pl.data.classes import Classes, label_table
from segmenter_pl.data.pairs import PairDataset
from segmenter_pl.data.transforms import train_transform

TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
RUNS = 9
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# width, height, suffix, crop, samples in a run
KINDS = {"683×512 JPEG": (683, 512, ".jpg", 512, 60), "2048×1024 PNG": (2048, 1024, ".png", 768, 12)}


class Reference:
    """MMSegmentation's training steps with its draws; base scale (long, short), `normalise` as in 0.x."""

    def __init__(self, base: tuple[int, int], crop: int, normalise: bool) -> None:
        self.base, self.crop, self.normalise, self.draw = base, crop, normalise, np.random.RandomState(0)

    def decode(self, picture: Path, label: Path) -> tuple[Any, Any]:
        """LoadImageFromFile and LoadAnnotations with reduce_zero_label."""
        bgr = cv2.imdecode(np.frombuffer(picture.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        with Image.open(io.BytesIO(label.read_bytes())) as file:
            mask = np.array(file).squeeze().astype(np.uint8)
        mask[mask == 0] = 255
        mask = mask - 1
        mask[mask == 254] = 255
        return bgr, mask

    def augment(self, bgr: Any, mask: Any) -> tuple[Any, Any]:
        """Resize, RandomCrop, RandomFlip, PhotoMetricDistortion, Normalize (0.x), Pad, tensors."""
        bgr, mask = self.cropped(*self.resized(bgr, mask))
        if self.draw.rand() < 0.5:
            bgr, mask = np.flip(bgr, axis=1), np.flip(mask, axis=1).copy()
        image = self.distorted(bgr)
        if self.normalise:
            image = image.copy().astype(np.float32)
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)
            cv2.subtract(image, np.float64(MEAN).reshape(1, -1), image)
            cv2.multiply(image, 1 / np.float64(STD).reshape(1, -1), image)
        pad = (0, self.crop - mask.shape[0], 0, self.crop - mask.shape[1], cv2.BORDER_CONSTANT)
        image, mask = cv2.copyMakeBorder(image, *pad, value=0), cv2.copyMakeBorder(mask, *pad, value=255)
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return planes, torch.from_numpy(mask[None].astype(np.int64))

    def resized(self, bgr: Any, mask: Any) -> tuple[Any, Any]:
        ratio = self.draw.random_sample() * 1.5 + 0.5
        target = [int(side * ratio) for side in self.base]
        factor = min(max(target) / max(mask.shape), min(target) / min(mask.shape))
        size = int(mask.shape[1] * factor + 0.5), int(mask.shape[0] * factor + 0.5)
        return cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR), cv2.resize(
            mask, size, interpolation=cv2.INTER_NEAREST
        )

    def cropped(self, bgr: Any, mask: Any) -> tuple[Any, Any]:
        for attempt in range(11):
            top = self.draw.randint(0, max(mask.shape[0] - self.crop, 0) + 1)
            left = self.draw.randint(0, max(mask.shape[1] - self.crop, 0) + 1)
            window = slice(top, top + self.crop), slice(left, left + self.crop)
            if attempt == 10:  # the last is not looked at
                break
            values, counts = np.unique(mask[window], return_counts=True)
            counts = counts[values != 255]
            if len(counts) > 1 and np.max(counts) / np.sum(counts) < 0.75:
                break
        return bgr[window], mask[window]

    def distorted(self, bgr: Any) -> Any:
        draw = self.draw
        if draw.randint(2):
            bgr = convert(bgr, beta=draw.uniform(-32, 32))
        contrast_first = draw.randint(2)
        if contrast_first and draw.randint(2):
            bgr = convert(bgr, alpha=draw.uniform(0.5, 1.5))
        if draw.randint(2):
            hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
            hsv[:, :, 1] = convert(hsv[:, :, 1], alpha=draw.uniform(0.5, 1.5))
            bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        if draw.randint(2):
            hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
            hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + draw.randint(-18, 18)) % 180
            bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        if not contrast_first and draw.randint(2):
            bgr = convert(bgr, alpha=draw.uniform(0.5, 1.5))
        return bgr


def convert(values: Any, alpha: float = 1, beta: float = 0) -> Any:
    return np.clip(values.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)


def write_pictures(source: Path, folder: Path, kind: str) -> None:
    """The pairs below `source` at the size and in the format of `kind`; files of that size are copied as they are."""

    width, height, suffix, *_ = KINDS[kind]
    rng = np.random.default_rng(0)
    for path in sorted(source.glob("images/*/*.jpg")):
        label = next(source.glob(f"annotations/*/{path.stem}.png"))
        bgr, ids = cv2.imread(str(path)), cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
        if suffix == ".jpg" and ids.shape == (height, width):
            (folder / path.name).write_bytes(path.read_bytes())
            (folder / f"{path.stem}_label.png").write_bytes(label.read_bytes())
            continue
        bgr = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_CUBIC)
        if suffix == ".png":  # an enlarged picture is too smooth; 2 grey levels are about a camera's noise
            bgr = np.clip(bgr + rng.normal(0, 2, bgr.shape), 0, 255).astype(np.uint8)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix == ".jpg" else []
        cv2.imwrite(str(folder / f"{path.stem}{suffix}"), bgr, quality)
        ids = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{path.stem}_label.png"), ids)


def data_set(folder: Path, kind: str) -> Any:
    """Our data set with the augmentations of a training, ADE20K's labels."""
    _, height, suffix, crop, _ = KINDS[kind]
    classes = Classes(tuple(map(str, range(150))), ((0, 0, 0),) * 150)
    labels = sorted(folder.glob("*_label.png"))
    pictures = [path for path in sorted(folder.glob(f"*{suffix}")) if path not in labels]
    pairs = PairDataset(pictures, labels, classes, label_table(list(range(1, 151)), classes, [0], {}), "")
    max_ratio = 2048 / height
    pairs.transform = train_transform(crop, height, max_ratio, (0.5, 2.0), 0.75, True, (124, 116, 104), 255)
    return pairs


def contenders(folder: Path, kind: str) -> dict[str, Callable[[int], Any]]:
    """What makes the sample number i, by name."""
    held, decoding, ram, disk = (data_set(folder, kind) for _ in range(4))
    for cache, pairs in (("ram", ram), ("disk", disk)):
        keep_decoded(cache, [(pairs, range(len(pairs)))], workers=0, processes=1)
    arrays = [held.decode(index) for index in range(len(held))]
    held.read = lambda index: arrays[index]
    reversed_arrays = [(image[..., ::-1].copy(), mask) for image, mask in arrays]
    count = len(arrays)
    functions: dict[str, Callable[[int], Any]] = {}
    for name, pairs in (("augmentation", held), ("decoding", decoding), ("ram", ram), ("disk", disk)):
        functions[f"ours {name}"] = lambda i, pairs=pairs: pairs[i // count, i % count]
    for version in ("0.x", "1.x"):
        reference = Reference((2048, KINDS[kind][1]), KINDS[kind][3], version == "0.x")
        functions[f"{version} augmentation"] = lambda i, r=reference: r.augment(*reversed_arrays[i % count])
        functions[f"{version} decoding"] = lambda i, r=reference: r.augment(
            *r.decode(decoding.pictures[i % count], decoding.labels[i % count])
        )
    return functions


def measure(folder: Path, kind: str) -> None:
    """In a process of its own: samples per second of CPU time, printed as JSON."""

    cv2.setNumThreads(0)
    functions, samples = contenders(folder, kind), KINDS[kind][-1]
    rates: dict[str, list[float]] = {name: [] for name in functions}
    for run in range(RUNS + 1):
        for name, function in functions.items():
            start = time.process_time()
            for i in range(run * samples, (run + 1) * samples):
                function(i)
            if run:  # the first is a warm-up, and fills the caches
                rates[name].append(samples / (time.process_time() - start))
    print(json.dumps({name: median(values) for name, values in rates.items()}))


def main(source: Path) -> None:
    print("| pictures | malloc | | mmseg 0.x, 1/s | mmseg 1.x, 1/s | ours, 1/s | to 0.x | to 1.x |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            write_pictures(source, Path(folder), kind)
            for malloc, environment in (("default", {}), ("tuned", TUNED)):
                settings = {**os.environ, "OMP_NUM_THREADS": "1", "SEGMENTER_CACHE": f"{folder}/cache", **environment}
                command = [sys.executable, __file__, folder, kind]
                run = subprocess.run(command, env=settings, check=True, capture_output=True, text=True)
                print("\n".join(rows(json.loads(run.stdout), f"| {kind} | {malloc} |")), flush=True)


def rows(rate: dict[str, float], head: str) -> Iterator[str]:
    """Lines of the table, of the rates of all contenders."""
    for title, name, other in (
        ("augmentation", "augmentation", "augmentation"),
        ("decoding + augmentation", "decoding", "decoding"),
        ("cache=ram", "ram", "decoding"),
        ("cache=disk", "disk", "decoding"),
    ):
        ours, old, new = rate[f"ours {name}"], rate[f"0.x {other}"], rate[f"1.x {other}"]
        yield f"{head} {title} | {old:.0f} | {new:.0f} | {ours:.0f} | {ours / old:.2f} | {ours / new:.2f} |"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        measure(Path(sys.argv[1]), sys.argv[2])
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    elif "SEGMENTER_TEST_ASSETS" in os.environ:
        main(Path(os.environ["SEGMENTER_TEST_ASSETS"]) / "data/ade20k/ADEChallengeData2016")
    else:
        sys.exit("give the folder ADEChallengeData2016, or set SEGMENTER_TEST_ASSETS")
