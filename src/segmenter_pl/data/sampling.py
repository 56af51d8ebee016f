"""Samplers without state: what they yield is a function of (seed, position), so a run can go on from any batch."""

from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

# What a `SegmentationDataset` is asked for: (epoch, index), or (position, index, class that the crop has to hold).
Key = tuple[int, int] | tuple[int, int, int]
Order = Callable[[int], Key]  # the sample at a position of the training stream


def check_batch_size(batch_size: int, world_size: int) -> None:
    """Raise ValueError for a number of pictures that is not positive, or cannot be shared out evenly."""
    if batch_size < 1:
        raise ValueError(f"dataset.batch_size={batch_size}: give 1 picture or more")
    if batch_size % world_size:
        raise ValueError(
            f"dataset.batch_size={batch_size} is over all devices and does not divide by the {world_size} devices: "
            f"use a multiple of {world_size}, or other trainer.devices / trainer.num_nodes"
        )


class Shuffled:
    """Every sample once an epoch: position p belongs to epoch p // length, at permutation(seed, epoch)[p % length].

    Raises: ValueError when there are no samples.
    """

    def __init__(self, length: int, seed: int) -> None:
        if length < 1:
            raise ValueError("the training set has no samples")
        self.length, self.seed = length, seed
        self.epoch, self.permutation = -1, np.empty(0, int)

    def __call__(self, position: int) -> Key:
        """(epoch, index)"""
        epoch, offset = divmod(position, self.length)
        if epoch != self.epoch:
            sequence = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
            self.epoch, self.permutation = epoch, np.random.default_rng(sequence).permutation(self.length)
        return epoch, int(self.permutation[offset])


class StreamBatchSampler(Sampler[list[Key]]):
    """The micro-batches of a whole training, for one rank.

    Micro-batch s covers positions s·B … (s+1)·B over all ranks; a batch may span two epochs, none is dropped.

    Args:
        order: the sample at each position of the stream.
        batch_size: B, over all ranks together.
        steps: number of micro-batches in the whole training; this is also `len`.
        start: number of micro-batches already done; iteration begins there.
    Raises: ValueError when `batch_size` does not divide by `world_size`.
    """

    def __init__(
        self, order: Order, *, batch_size: int, steps: int, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> None:
        check_batch_size(batch_size, world_size)
        self.order, self.batch_size, self.steps = order, batch_size, steps
        self.rank, self.world_size, self.start = rank, world_size, start

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Key]]:
        local = self.batch_size // self.world_size
        for step in range(self.start, self.steps):
            first = step * self.batch_size + self.rank * local
            yield [self.order(position) for position in range(first, first + local)]


class EvalSampler(Sampler[int]):
    """rank, rank + world_size, …: every sample once over all ranks, without padding."""

    def __init__(self, length: int, rank: int, world_size: int) -> None:
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def train_subset(length: int, train_images: int) -> list[int]:
    """Sorted indices of `train_images` of `length` samples.

    The same for every run, and nested: a smaller subset is part of a larger one. Raises ValueError outside 1…length.
    """
    if not 1 <= train_images <= length:
        raise ValueError(f"dataset.train_images={train_images}: choose 1…{length}, or null for all {length} pictures")
    return sorted(np.random.default_rng(0).permutation(length)[:train_images].tolist())
