"""Loaders for training and validation around any `SegmentationDataset`."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import cv2
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from segmenter_pl.data.balance import Counts, RareClasses, class_counts
from segmenter_pl.data.caching import CACHES, keep_decoded
from segmenter_pl.data.classes import Classes
from segmenter_pl.data.dataset import SegmentationDataset, Subset
from segmenter_pl.data.sampling import EvalSampler, Order, Shuffled, StreamBatchSampler, train_subset
from segmenter_pl.data.transforms import eval_transform, train_transform

GRACE = 120  # seconds that a loader process goes on after a SIGTERM


class SegmentationDataModule(LightningDataModule, ABC):
    """Base of the data modules: a subclass sets `classes` in its constructor and says what `dataset(split)` is.

    Args:
        batch_size: pictures per micro-batch, over all devices together.
        crop: side of the training crops in pixels.
        short_side, max_ratio, scale: base size of the training resize and range of its random factor; `short_side=None`
            keeps pictures at their own size.
        cat_max_ratio: largest share one class may have in a crop.
        photometric: whether colours are distorted.
        train_images: size of a fixed subset of the training pictures; None for all.
        sampling: "uniform", every picture once an epoch, or "rare", see `RareClasses`.
        rare_temperature: of "rare".
        num_workers: loader processes per device; samples do not depend on it.
        cache: where a training keeps decoded pictures, those to validate as well: "none"; "ram", shared by the workers
            of a device but not by devices; or "disk", in $SEGMENTER_CACHE.
        seed: of the order of samples and of every augmentation.
        bad_sample: "fail" or "skip" (see `SegmentationDataset`), for pictures that cannot be read.

    Two attributes may be set before `setup`: `pad_color` (RGB, 0…255; the encoder's mean) fills crops of small
    pictures; `eval_split` is validated.

    Attributes:
        without_foreground: of two-class data, what the names of pictures hold that are known to lack the second class;
            None where their labels tell.
    """

    classes: Classes
    without_foreground: ClassVar[str | None] = None

    def __init__(
        self,
        *,
        batch_size: int,
        crop: int,
        short_side: int | None = None,
        max_ratio: float = 4.0,
        scale: Sequence[float] = (0.5, 2.0),
        cat_max_ratio: float = 0.75,
        photometric: bool = True,
        train_images: int | None = None,
        sampling: str = "uniform",
        rare_temperature: float = 0.1,
        num_workers: int = 0,
        cache: str = "none",
        seed: int = 0,
        bad_sample: str = "fail",
    ) -> None:
        super().__init__()
        if bad_sample not in ("fail", "skip"):
            raise ValueError(f"bad_sample={bad_sample}: choose fail or skip")
        if train_images is not None and not isinstance(train_images, int):
            raise ValueError(f"dataset.train_images={train_images}: give a whole number, or null for all pictures")
        if sampling not in ("uniform", "rare"):
            raise ValueError(f"dataset.sampling={sampling}: choose uniform or rare")
        if cache not in CACHES:
            raise ValueError(f"dataset.cache={cache}: choose {', '.join(CACHES[:-1])} or {CACHES[-1]}")
        self.cache = cache
        self.sampling, self.rare_temperature = sampling, rare_temperature
        self.batch_size, self.crop, self.short_side, self.max_ratio = batch_size, crop, short_side, max_ratio
        self.scale, self.cat_max_ratio, self.photometric = scale, cat_max_ratio, photometric
        self.train_images, self.num_workers, self.seed = train_images, num_workers, seed
        self.bad_sample = bad_sample
        self.pad_color: Sequence[float] = (128, 128, 128)
        self.eval_split = "val"
        self._counts: Counts | None = None
        self._ready: set[str] = set()

    @abstractmethod
    def dataset(self, split: str) -> SegmentationDataset:
        """The dataset of "train", "val" or another split that there is."""

    def setup(self, stage: str) -> None:
        """Make the data sets; once, though the commands call it before Lightning does."""
        if stage in self._ready:
            return
        self._ready.add(stage)
        self.val_set = self.dataset(self.eval_split)
        self.val_set.transform, self.val_set.bad_sample = eval_transform(), self.bad_sample
        if stage == "fit":
            whole, chosen = self.dataset("train"), None
            if self.train_images is not None:
                chosen = train_subset(len(whole), self.train_images)
            if self.cache != "none":
                parts = [(whole, chosen or range(len(whole))), (self.val_set, range(len(self.val_set)))]
                processes = self.trainer.num_devices if self.trainer else 1
                keep_decoded(self.cache, parts, workers=self.num_workers, processes=processes)
            train_set = whole if chosen is None else Subset(whole, chosen)
            train_set.seed, train_set.bad_sample = self.seed, self.bad_sample
            train_set.transform = train_transform(
                self.crop,
                self.short_side,
                self.max_ratio,
                self.scale,
                self.cat_max_ratio,
                self.photometric,
                self.pad_color,
                self.classes.ignore_index,
            )
            self.train_set = train_set

    @property
    def pictures(self) -> dict[str, int]:
        """How many there are, once set up."""
        sets = {"train": getattr(self, "train_set", ()), "val": getattr(self, "val_set", ())}
        return {split: len(dataset) for split, dataset in sets.items()}

    def fingerprint(self) -> dict[str, Any] | None:
        """What tells these data from others of the same name and number; None: data that no file holds."""
        return None

    def class_counts(self) -> Counts:
        """Labelled pixels of the training pictures by picture and class (N, K); read once, once set up."""
        if self._counts is None:
            self._counts = class_counts(self.train_set, self.num_workers)
        return self._counts

    def order(self) -> Order:
        """The sample at each position of the training stream, once set up."""
        if self.sampling == "rare":
            return RareClasses(self.class_counts(), self.seed, self.rare_temperature)
        return Shuffled(len(self.train_set), self.seed)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """All micro-batches of the training in one pass, from the first that is not yet done: there are no epochs.

        Raises: ValueError when `batch_size` does not divide by the number of devices, or trainer.max_steps is not set.
        """
        trainer = self._trainer()
        if trainer.max_steps < 1:
            raise ValueError(
                f"trainer.max_steps={trainer.max_steps}: training is counted in steps, set it to 1 or more"
            )
        batches = StreamBatchSampler(
            self.order(),
            batch_size=self.batch_size,
            steps=trainer.max_steps * trainer.accumulate_grad_batches,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            # Lightning calls iter(loader) before it restores its epoch, so only the count of batches is to be trusted.
            start=trainer.fit_loop.epoch_loop.batch_progress.total.ready,
        )
        return self._loader(self.train_set, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Whole pictures at their own size, one by one, each on exactly one device."""
        trainer = self._trainer()
        if len(self.val_set) < trainer.world_size:
            raise ValueError(
                f"{len(self.val_set)} pictures to validate on {trainer.world_size} devices: use fewer trainer.devices"
            )
        sampler = EvalSampler(len(self.val_set), trainer.global_rank, trainer.world_size)
        return self._loader(self.val_set, batch_size=1, sampler=sampler)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Make indices plain numbers, which stay here: to read them back, the device would have to be waited for."""
        return {**batch, "index": batch["index"].tolist()}

    def _trainer(self) -> Any:
        if self.trainer is None:
            raise ValueError("loaders depend on the trainer: pass the data module to trainer.fit or trainer.validate")
        return self.trainer

    def _loader(self, dataset: SegmentationDataset, **order: Any) -> DataLoader[dict[str, Any]]:
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
            **order,
        )


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism
    # Ctrl-C and a cluster's SIGTERM reach every process; the main one still needs samples to finish its step with.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
