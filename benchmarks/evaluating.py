"""The evaluation of a training checkpoint on its own validation pictures, executed in another way than usual."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf
from torch import Tensor

from segmenter_pl import build, report
from segmenter_pl.checkpoint import blueprint_of
from segmenter_pl.evaluation import TTA, EvaluationTask


class Labels(Callback):
    """Keeps the labels (H, W) of each picture."""

    def __init__(self) -> None:
        self.pictures: list[Tensor] = []

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, *others: Any) -> None:
        self.pictures.append(outputs)


def evaluated(
    checkpoint: str, *, token_merging: Mapping[str, Any] | None = None, precision: str = "32-true", tta: str = "none"
) -> tuple[float, list[Tensor]]:
    """mIoU, and the labels (H, W) of each picture."""
    report.quiet_lightning()
    blueprint = blueprint_of(checkpoint)
    if token_merging is not None:
        blueprint.backbone["token_merging"] = dict(token_merging)
    model = blueprint.build()
    data = build.safe_dataset(blueprint.info["config"]["dataset"])
    datamodule = build.build_datamodule(OmegaConf.create({"dataset": data, "seed": 0, "bad_sample": "fail"}))
    spec: Any = model.spec
    view = {key: getattr(spec, key) for key in ("window", "stride", "short_side")}
    settings: Any = {**view, **TTA[tta]}
    task = EvaluationTask(model, class_names=spec.classes, ignore_index=spec.ignore_index, settings=settings)
    labels = Labels()
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        callbacks=[labels],
        enable_model_summary=False,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.validate(task, datamodule=datamodule, verbose=False)
    return task.results["val"]["miou"], labels.pictures


def agreement(labels: Sequence[Tensor], usual: Sequence[Tensor]) -> float:
    """Part of the pixels with the same label: mean over the pictures, in percent."""
    same = [float((one == other).double().mean()) for one, other in zip(labels, usual, strict=True)]
    return 100 * sum(same) / len(same)
