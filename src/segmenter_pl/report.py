"""What a run says and leaves behind beside its checkpoints: config.yaml, results.json, and two lines for people."""

from __future__ import annotations

import csv
import io
import json
import logging
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from segmenter_pl.loggers.base import RunLogger, write_atomically

if TYPE_CHECKING:
    from lightning import Trainer
    from omegaconf import DictConfig

    from segmenter_pl.task import SegmentationTask


EXPECTED_WARNINGS = (
    # Workers only cost time for data drawn in memory; Lightning documents this very filter:
    # https://lightning.ai/docs/pytorch/stable/advanced/warnings.html
    ".*does not have many workers.*",
    # Lightning uses a name that torch renamed: https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    r".*isinstance\(treespec, LeafSpec\)",
    # A run goes on in its own directory: https://github.com/Lightning-AI/pytorch-lightning/pull/9615
    "Checkpoint directory .* exists and is not empty",
    # backbone.freeze=true asks for it: https://github.com/Lightning-AI/pytorch-lightning/issues/19820
    ".*in eval mode at the start of training",
    # Our samplers begin where the run stopped: https://github.com/Lightning-AI/pytorch-lightning/issues/11029
    ".*your dataloader is not resumable",
)


def headline(config: DictConfig, model: Any, datamodule: Any, *, done: int) -> str:
    """One line: what is about to run after `done` steps, on what, and where it goes."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    parts = " + ".join(type(part).__name__ for part in model.children())
    doing = f"Continuing after step {done}," if done else "Training"
    return (
        f"{doing} {config['name']}: {parts}, {trained / 1e6:.2f} M parameters, "
        f"{len(datamodule.train_set)} pictures of {len(datamodule.classes)} classes "
        f"({len(datamodule.val_set)} to validate), {config['trainer']['max_steps']} steps of "
        f"{config['dataset']['batch_size']} → {_shown(config['run_dir'])}"
    )


def summary(results: dict[str, Any], run_dir: Path) -> str:
    """Two lines: the result, and where it was written."""
    val, best = results["val"], results["best"]
    return (
        f"val mIoU {val['miou']:.4f} (last weights, step {results['steps']}), "
        f"pixel accuracy {val['pixel_accuracy']:.4f}; best {best['miou']:.4f} at step {best['step']}\n"
        f"{_left_out(results['faults'])}"
        f"Written to {_shown(run_dir)}: " + " ".join(sorted(p.name for p in run_dir.iterdir()))
    )


def _left_out(faults: dict[str, Any]) -> str:
    """A line on what was left out of a run, if anything was."""
    counts = {"steps without a finite loss or gradient": faults["skipped_steps"]}
    counts["pictures that cannot be read"] = len(faults["unreadable"])
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"Left out: {said} (results.json: faults)\n" if said else ""


def write_config(config: dict[str, Any], run_dir: Path) -> None:
    """`config.yaml`: everything resolved."""
    run_dir.mkdir(parents=True, exist_ok=True)
    _write(run_dir / "config.yaml", yaml.safe_dump(config, sort_keys=False))


def write_results(task: SegmentationTask, config: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """`results.json`: fractions, not percent; `val` is of the last weights, `best` of the best."""
    results = {**_record(task, config), "best": task.best, "steps": task.trainer.global_step, "faults": task.faults}
    _write(run_dir / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def evaluation_folder(checkpoint: Path, config: DictConfig) -> Path:
    """`eval/<checkpoint>/<dataset>-<split>-<tta>` in a run directory, or beside a checkpoint that stands alone.

    A window, stride or short side other than the training's is part of the name, so that results do not mix.
    """
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    view = [f"-{key}{config[key]}" for key in ("window", "stride", "short_side") if config[key] != "auto"]
    name = f"{config.dataset.name}-{config.split}-none{''.join(view)}"
    return (folder.parent if folder.name == "checkpoints" else folder) / "eval" / checkpoint.stem / name


def write_evaluation(task: SegmentationTask, config: dict[str, Any], folder: Path) -> None:
    """`results.json` and `classes.csv` of one evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {**_record(task, config), "faults": task.faults}
    _write(folder / "results.json", json.dumps(results, indent=2) + "\n")
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["class", "iou"])
    table.writerows([name, "" if iou is None else iou] for name, iou in task.last["classes"].items())
    _write(folder / "classes.csv", rows.getvalue())


def class_table(result: dict[str, Any]) -> str:
    """IoU by class as aligned lines; a dash where a class does not occur."""
    width = max(len(name) for name in result["classes"])
    lines = (f"{name:<{width}}  {'-' if iou is None else f'{iou:.4f}'}" for name, iou in result["classes"].items())
    return f"{'class':<{width}}  IoU\n" + "\n".join(lines)


def evaluation_line(task: SegmentationTask, folder: Path) -> str:
    """Two lines: the result, and where it was written."""
    result = task.last
    return (
        f"mIoU {result['miou']:.4f}, pixel accuracy {result['pixel_accuracy']:.4f}, "
        f"mean accuracy {result['mean_accuracy']:.4f}, loss {result['loss']:.4f}\n"
        f"{_left_out(task.faults)}"
        f"Written to {_shown(folder)}: " + " ".join(sorted(p.name for p in folder.iterdir()))
    )


def read_results(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "results.json").read_text())


def _record(task: SegmentationTask, config: dict[str, Any]) -> dict[str, Any]:
    """What training and evaluation both write: the latest result and all that made it."""
    val = {key: value for key, value in task.last.items() if key != "step"}
    return {"val": val, "config": config, "command": command(), "versions": versions()}


def versions() -> dict[str, str]:
    """Of Python and the libraries that results depend on."""
    names = ("segmenter-pl", "torch", "lightning", "timm", "torchmetrics", "albumentations", "hydra-core")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


def command() -> str:
    """The command line as it can be typed again."""
    return shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode())


def quiet_lightning() -> None:
    """Our own lines say what ran; Lightning's hints about hardware and stopping would repeat it."""
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)


@contextmanager
def closed_loggers(trainer: Trainer) -> Iterator[None]:
    """Ends W&B's run with the right exit code, or the next job of a sweep would log into it."""
    code = 1
    try:
        yield
        code = 0
    finally:
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.finish(code)


@contextmanager
def enough_memory(config: DictConfig) -> Iterator[None]:
    """Turns the device's "out of memory" into what was asked of it and what to try. Raises MemoryError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # torch has a class of its own for accelerators only; on a CPU its allocator says it in words.
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(error):
            raise
        data, batch = config.dataset, config.dataset.batch_size
        accumulate = config.trainer.accumulate_grad_batches
        asked = f"dataset.batch_size={batch}, dataset.crop={data.crop}, dataset.window={data.window}"
        halved = f"dataset.batch_size={batch // 2} trainer.accumulate_grad_batches={2 * accumulate} (the same steps), "
        raise MemoryError(
            f"out of memory with {asked} and trainer.precision={config.trainer.precision} "
            f"({str(error).splitlines()[0]}). Try {halved if batch > 1 else ''}trainer.precision=bf16-mixed, a smaller "
            "dataset.crop and dataset.window, or a smaller backbone"
        ) from error


def _shown(path: str | Path) -> str:
    """Relative to here where that is shorter."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
