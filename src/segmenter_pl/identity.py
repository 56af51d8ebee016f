"""Which settings make two runs the same run: those that decide about numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Keys that say only how, where or how visibly to execute. Everything else changes numbers and names the run.
EXECUTION_KEYS = (
    "hydra",
    "name",
    "seed",  # a folder of its own
    "run_dir",
    "run_root",
    "data_root",
    "logger",
    "resume",
    "checkpoint_every",
    "nonfinite",  # these four only matter when something is wrong
    "nonfinite_limit",
    "bad_sample",
    "bad_sample_limit",
    "callbacks.recorder",
    "callbacks.checkpoints",
    "callbacks.progress",
    "callbacks.panel",
    "backbone.checkpointing",
    "optimizer.fused",
    "dataset.num_workers",
    "dataset.cache",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.log_every_n_steps",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.profiler",
)

# Files and folders count by their own name, wherever they lie.
LOCATION_KEYS = ("dataset.root", "dataset.classes_file", "backbone.weights")


def numbers_changing(config: Any) -> dict[str, Any]:
    """Dotted keys and values of a resolved configuration that decide about numbers; what only says how, where or how
    visibly to execute is left out, and files and folders are reduced to their own name."""
    leaves = {key: value for key, value in _leaves(config) if not is_execution(key)}
    return leaves | {key: Path(str(leaves[key])).name for key in LOCATION_KEYS if leaves.get(key)}


def is_execution(key: str) -> bool:
    """Whether a dotted key says only how, where or how visibly to execute."""
    return any(key == known or key.startswith(known + ".") for known in EXECUTION_KEYS)


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and plain values of nested dictionaries; lists count as values."""
    if not isinstance(node, dict):
        yield prefix, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
