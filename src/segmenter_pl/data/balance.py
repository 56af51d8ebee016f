"""Rare classes: how often each one occurs, weights for the loss, and an order of samples that shows them more often."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from segmenter_pl.data.dataset import SegmentationDataset, UnreadableError
from segmenter_pl.data.sampling import Key

Counts = NDArray[np.int64]


def class_counts(dataset: SegmentationDataset, threads: int = 1) -> Counts:
    """Labelled pixels by picture and class (N, K); every label is read once, with a progress bar on a terminal.

    A label that cannot be read counts nothing where the data set's `bad_sample` is "skip".
    """

    def counted(index: int) -> Counts:
        try:
            mask = dataset.mask(index)
        except UnreadableError:
            if dataset.bad_sample == "fail":
                raise
            return np.zeros(len(dataset.classes), np.int64)
        return np.bincount(mask.ravel(), minlength=len(dataset.classes))[: len(dataset.classes)]

    console = Console(stderr=True)
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        counts = pool.map(counted, range(len(dataset)))
        shown = track(counts, "Counting classes", len(dataset), console=console, disable=not sys.stderr.isatty())
        return np.stack(list(shown))


def median_frequency(counts: Counts) -> NDArray[np.float64]:
    """median(f) / f with f the share of a class among the labelled pixels of the pictures that hold it.

    Source: Eigen and Fergus, ICCV 2015; SegNet uses it on CamVid. Returns (K,); 1 for a class that does not occur.
    """
    pixels = counts.sum(1, keepdims=True)
    frequency = counts.sum(0) / np.maximum((pixels * (counts > 0)).sum(0), 1)
    occurs = frequency > 0
    return np.where(occurs, np.median(frequency[occurs]) / np.where(occurs, frequency, 1), 1.0)


def inverse_log(counts: Counts) -> NDArray[np.float64]:
    """1 / ln(1.02 + f) with f the share of a class among all labelled pixels: from 1.4 to 50.5 (Paszke et al., ENet).

    Returns (K,).
    """
    return 1 / np.log(1.02 + counts.sum(0) / counts.sum())


CLASS_WEIGHTS: dict[str, Callable[[Counts], NDArray[np.float64]]] = {
    "median_frequency": median_frequency,
    "inverse_log": inverse_log,
}


class RareClasses:
    """An order of samples: first a class, rare ones more often, then one of the pictures that hold it.

    A class with the share f of all labelled pixels is drawn with a probability proportional to exp((1 - f) / T), and
    the crop of the picture will hold a pixel of it. Source: Hoyer et al., DAFormer, CVPR 2022, §3.2 (T = 0.01 there).

    Args:
        counts: labelled pixels by picture and class (N, K).
        seed: of all draws; the draw at a position depends on nothing else.
        temperature: T; the smaller, the more the frequent classes lose.
    Raises: ValueError for a temperature that is not positive.
    """

    def __init__(self, counts: Counts, seed: int, temperature: float) -> None:
        if temperature <= 0:
            raise ValueError(f"dataset.rare_temperature={temperature}: give a number above 0")
        self.seed = seed
        share = counts.sum(0) / max(counts.sum(), 1)
        self.classes = np.flatnonzero(share)
        if not len(self.classes):
            raise ValueError("dataset.sampling=rare: no training picture has a labelled pixel")
        logits = (1 - share[self.classes]) / temperature
        odds = np.exp(logits - logits.max())
        self.probabilities = odds / odds.sum()
        self.holding = [np.flatnonzero(counts[:, k]) for k in self.classes]

    def __call__(self, position: int) -> Key:
        """(position, index, class): positions differ, and so do the augmentations of a picture that comes again."""
        draw = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(position,)))
        choice = draw.choice(len(self.classes), p=self.probabilities)
        return position, int(draw.choice(self.holding[choice])), int(self.classes[choice])
