"""Samples in the order, and as, a training sees them."""

from collections.abc import Iterator

import numpy as np

from segmenter_pl.checking.sheet import Sample
from segmenter_pl.data.datamodule import SegmentationDataModule
from segmenter_pl.data.dataset import SegmentationDataset
from segmenter_pl.data.sampling import Order, Shuffled
from segmenter_pl.data.transforms import eval_transform


def samples(datamodule: SegmentationDataModule, split: str, *, plain: bool) -> Iterator[Sample | str]:
    """One after the other, without end; in place of what cannot be read, why.

    Args:
        split: "train" gives what a training with these settings sees from its first step on; other splits have whole
            pictures, in an order of the data module's seed.
        plain: whole pictures of train too.

    Raises: FileNotFoundError, ValueError for files that do not fit together; ValueError where none can be read.
    """
    dataset, order = _source(datamodule, split)
    if plain or split != "train":
        dataset.transform = eval_transform()
    position = unreadable = 0
    while unreadable < len(dataset):
        key = order(position)
        epoch, index = key[:2]
        sample = dataset[index if plain else key]
        position += 1
        if sample["unreadable"]:
            unreadable += 1
            yield sample["unreadable"]
        else:
            unreadable = 0
            name = dataset.name(index) + (f" (epoch {epoch})" if epoch and len(key) == 2 else "")
            image = np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())
            yield Sample(name, image, sample["mask"].numpy())
    raise ValueError(f"split={split}: none of its {len(dataset)} pictures can be read")


def _source(datamodule: SegmentationDataModule, split: str) -> tuple[SegmentationDataset, Order]:
    if split == "train":
        datamodule.setup("fit")
        return datamodule.train_set, datamodule.order()
    dataset = datamodule.dataset(split)
    dataset.bad_sample = datamodule.bad_sample
    return dataset, Shuffled(len(dataset), datamodule.seed)
