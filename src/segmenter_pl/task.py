"""Training and validation of a `SegmentationModel` as a LightningModule."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from segmenter_pl.guard import Guard, gathered
from segmenter_pl.inference import predict_bands, window_anchors
from segmenter_pl.metrics import SegmentationMetrics
from segmenter_pl.ops import best_class, pixel_weight, upsampled_cross_entropy
from segmenter_pl.stochastic_depth import DepthDraws

Batch = dict[str, Any]  # a collated sample of `data.dataset.SegmentationDataset`


class SegmentationTask(LightningModule):
    """Per-pixel cross-entropy on coarse logits; validation with sliding windows at the label's own size.

    Args:
        model: any `SegmentationModel`.
        optimizer: makes the optimizer from the model (groups, rates, decay); None: only to evaluate.
        schedule: makes the per-step schedule from the optimizer and the number of steps; likewise.
        class_names: K names, for `val/iou/<class>`.
        ignore_index: label of the pixels that do not count.
        window, stride, short_side: of validation, as `inference.predict_logits`.
        class_weights: K weights of the training loss, or None.
        label_smoothing: of the training loss, 0…1.
        seed: dropout draws from (seed, batch, rank), stochastic depth from (seed, batch, position of the picture in the
            batch over all devices): a resumed run repeats them, and several devices drop the same paths as one.
        guard: says what happens to steps and pictures that are not sound; None: a step stops the run.
        checkpoint_info: plain data that every checkpoint carries under `segmenter`.

    Attributes:
        last, best: results of the latest validation and of the one with the highest mIoU, as in results.json.
        faults: what went wrong without ending the run: steps left out, and pictures that could not be read.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: Callable[[nn.Module], Optimizer] | None = None,
        schedule: Callable[[Optimizer, int], LRScheduler] | None = None,
        class_names: Sequence[str],
        ignore_index: int,
        window: int,
        stride: int,
        short_side: int | None = None,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        seed: int = 0,
        guard: Guard | None = None,
        checkpoint_info: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if class_weights is not None and len(class_weights) != len(class_names):
            raise ValueError(
                f"loss.class_weights has {len(class_weights)} numbers for {len(class_names)} classes: "
                "give one per class, or null"
            )
        window_anchors(window, window, stride)  # a stride that leaves gaps is refused now, not at the first validation
        self.model: Any = model
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.class_names = tuple(class_names)
        self.ignore_index = ignore_index
        self.view: dict[str, Any] = {"window": window, "stride": stride, "short_side": short_side}
        self.label_smoothing = label_smoothing
        self.seed = seed
        self.checkpoint_info = dict(checkpoint_info or {})
        self.metrics = SegmentationMetrics(len(class_names), ignore_index)
        self.val_loss = MeanMetric()
        self.class_weights: Tensor | None
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.guard = guard or Guard()
        self.depths = DepthDraws(model)
        # Of the micro-batches of one step. Not buffers: DDP would overwrite every rank's with the first one's.
        self.sums: Tensor | float = 0.0  # loss and valid pixels
        self.batch_pixels = 1
        self.seen: list[int] = []  # samples
        self.best: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.faults: dict[str, Any] = {"skipped_steps": 0, "unreadable": []}

    def configure_optimizers(self) -> Any:
        assert self.make_optimizer is not None
        assert self.make_schedule is not None
        optimizer = self.make_optimizer(self.model)
        schedule = self.make_schedule(optimizer, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(int(np.random.SeedSequence([self.seed, batch_idx, self.global_rank]).generate_state(1)[0]))
        first = self.global_rank * len(batch["image"])
        self.depths.draw(self.seed, batch_idx, range(first, first + len(batch["image"])), self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._note_unreadable(batch)
        target = batch["mask"]
        coarse = self.model.coarse_logits(batch["image"])
        counting: dict[str, Any] = {"ignore_index": self.ignore_index, "class_weights": self.class_weights}
        total = upsampled_cross_entropy(
            coarse, target, self.model.stride, label_smoothing=self.label_smoothing, reduction="sum", **counting
        )
        valid = pixel_weight(target, **counting)
        self.sums = self.sums + torch.stack([total.detach(), valid.to(total)])
        self.batch_pixels = target.numel()
        self.seen += batch.get("index", [])
        # All pixels, a constant, stand in for the valid ones: on_before_optimizer_step puts that right.
        return total / self.batch_pixels

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Normalise by the valid pixels of all micro-batches on all devices, so that 1 and N devices do the same."""
        micro_batches = self.trainer.accumulate_grad_batches * self.trainer.world_size
        sums: Any = self.trainer.strategy.reduce(self.sums, reduce_op="sum")
        valid = sums[1].clamp(min=1e-12)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, self.batch_pixels * micro_batches / valid)
        loss, norm = sums[0] / valid, torch.nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self.log("train/loss", loss, prog_bar=True, logger=False)
        self.log("train/grad_norm", norm, logger=False)
        self.guard.check(self, loss, norm, optimizer)
        self.sums, self.seen = 0.0, []

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count one picture (batch of 1) and return its class ids (H, W)."""
        self._note_unreadable(batch)
        image, target = batch["image"][0], batch["mask"][0].long()
        labels, total = torch.empty_like(target), torch.zeros((), device=target.device)
        for rows, columns, logits in predict_bands(self.model, image, **self.view):
            truth = target[rows, columns].flatten()
            total += F.cross_entropy(logits.flatten(0, 1), truth, ignore_index=self.ignore_index, reduction="sum")
            labels[rows, columns] = best_class(logits)
        valid = (target != self.ignore_index).sum()
        self.val_loss.update(total / valid.clamp(min=1), valid)
        self.metrics.update(labels, batch["mask"][0])  # as it came, often uint8: quicker to count
        return labels

    def _note_unreadable(self, batch: Batch) -> None:
        for message in filter(None, batch.get("unreadable", ())):
            self.guard.note_unreadable(message, self.faults["unreadable"])

    def on_validation_start(self) -> None:
        self.guard.settle(self)

    def on_validation_epoch_end(self) -> None:
        self.faults["unreadable"] = gathered(self.faults["unreadable"])
        values = self.metrics.compute()
        if values["miou"].isnan():
            raise ValueError("no picture of the validation split has a labelled pixel: check dataset.ignore_value")
        iou = dict(zip(self.class_names, values["iou"].tolist(), strict=True))
        means = {key: float(values[key]) for key in ("miou", "pixel_accuracy", "mean_accuracy")}
        means["loss"] = float(self.val_loss.compute())
        self.metrics.reset()
        self.val_loss.reset()
        classes = {name: value if value == value else None for name, value in iou.items()}  # NaN: does not occur
        self.last = {**means, "classes": classes, "step": self.trainer.global_step}
        if means["miou"] > self.best.get("miou", -1.0):
            self.best = self.last
        # Equal on every device already; sync_dist only tells Lightning so.
        quietly: dict[str, Any] = {"sync_dist": True, "logger": False}  # `Recorder` hands everything to the loggers
        self.log("val/miou", means.pop("miou"), prog_bar=True, **quietly)
        self.log_dict({f"val/{key}": value for key, value in means.items()}, **quietly)
        known = {f"val/iou/{name}": value for name, value in classes.items() if value is not None}
        self.log_dict(known, **quietly)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # A stop that is asked for is validated first: the last weights always have a result.
        if self.trainer.global_step >= self.trainer.max_steps:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        self.depths.end()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.guard.settle(self)
        results = {"best": self.best, "last": self.last, "faults": self.faults}
        checkpoint["segmenter"] = {**self.checkpoint_info, **results}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        stored = checkpoint["segmenter"]
        self.best, self.last, self.faults = stored["best"], stored["last"], stored["faults"]
