"""What a run says and leaves behind beside its checkpoints: config.yaml, results.json, and two lines for people."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from segmenter_pl.files import write_atomically

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from segmenter_pl.task import SegmentationTask


EXPECTED_WARNINGS = (
    # Workers only cost time for data drawn in memory; Lightning documents this very filter:
    # https://lightning.ai/docs/pytorch/stable/advanced/warnings.html
    ".*does not have many workers.*",
    # Lightning uses a name that torch renamed: https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    r".*isinstance\(treespec, LeafSpec\)",
    # backbone.freeze=true asks for it: https://github.com/Lightning-AI/pytorch-lightning/issues/19820
    ".*in eval mode at the start of training",
    # Our samplers begin where the run stopped: https://github.com/Lightning-AI/pytorch-lightning/issues/11029
    ".*your dataloader is not resumable",
)


def headline(config: DictConfig, model: Any, datamodule: Any, *, done: int) -> str:
    """One line: what is about to run after `done` steps, on what, and where it goes."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    doing = f"Continuing after step {done}," if done else "Training"
    return (
        f"{doing} {config['name']}: {model.title}, {trained / 1e6:.2f} M parameters, "
        f"{len(datamodule.train_set)} pictures of {len(datamodule.classes)} classes "
        f"({len(datamodule.val_set)} to validate), {config['trainer']['max_steps']} steps of "
        f"{config['dataset']['batch_size']} → {shown(config['run_dir'])}"
    )


def summary(results: dict[str, Any], run_dir: Path) -> str:
    """Two lines: the result, and where it was written."""
    val, best = results["val"], results["best"]
    return (
        f"val mIoU {val['miou']:.4f} (last weights, step {results['steps']}), "
        f"pixel accuracy {val['pixel_accuracy']:.4f}; best {best['miou']:.4f} at step {best['step']}\n"
        f"{left_out(results['faults'])}"
        f"Written to {shown(run_dir)}: " + " ".join(sorted(p.name for p in run_dir.iterdir()))
    )


def left_out(faults: dict[str, Any]) -> str:
    """A line on what was left out of a run, if anything was."""
    counts = {"steps without a finite loss or gradient": faults["skipped_steps"]}
    counts["pictures that cannot be read"] = len(faults["unreadable"])
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"Left out: {said} (results.json: faults)\n" if said else ""


def way_on(run_dir: Path) -> str:
    """A line for somebody who has stopped a run."""
    last = run_dir / "checkpoints/last.ckpt"
    if not last.exists():
        return f"There is no checkpoint in {shown(run_dir)}: the same command begins again"
    return f"The same command continues in {shown(run_dir)} (with resume=auto, the default)"


def write_config(config: dict[str, Any], run_dir: Path) -> None:
    """`config.yaml`: everything resolved."""
    run_dir.mkdir(parents=True, exist_ok=True)
    _write(run_dir / "config.yaml", yaml.safe_dump(config, sort_keys=False))


def write_results(task: SegmentationTask, config: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """`results.json`: fractions, not percent; `val` is of the last weights, `best` of the best."""
    results = {**_record(task, config), "best": task.best, "steps": task.trainer.global_step, "faults": task.faults}
    results["parameters"] = sum(parameter.numel() for parameter in task.model.parameters())
    results["files"] = task.checkpoint_info.get("files")
    _write(run_dir / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def read_results(run_dir: Path) -> dict[str, Any]:
    """Raises ValueError for a file that is none of ours, or cut off."""
    path = run_dir / "results.json"
    try:
        results = json.loads(path.read_text())
        return {key: results[key] for key in ("val", "best", "steps", "faults")} | results
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error!r}): remove it, and the same command writes it again"
        ) from error


def _record(task: SegmentationTask, config: dict[str, Any]) -> dict[str, Any]:
    """The latest result and all that made it."""
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
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # a table that somebody asked for
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)


def shown(path: str | Path) -> str:
    """Relative to here where that is shorter."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
