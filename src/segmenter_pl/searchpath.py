"""What Hydra must know before it composes: where `experiments/` is, and how a run directory is named."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

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

# Choices of whole groups that the readable part leaves out: one stands in the name, the other says where to execute.
UNNAMED_GROUPS = ("experiment", "trainer")


class ExperimentsOnSearchPath(SearchPathPlugin):
    """Groups of `segmenter_pl.experiments`; as a plugin, so that --help and glob(*) see them too."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="segmenter_pl", path="pkg://segmenter_pl.experiments")


def run_id(*, _root_: DictConfig) -> str:
    """Readable overrides and 8 hex digits over every key that changes numbers: no clock, no machine.

    The same settings give the same directory, with another logger or number of workers too. Overrides that spell out
    a default do not change the digits, so a directory that has them is found again under its first name.
    """
    job = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    leaves = numbers_changing(OmegaConf.to_container(job, resolve=True))
    digest = hashlib.sha256(json.dumps(leaves, sort_keys=True, default=str).encode()).hexdigest()[:8]
    for known in sorted(Path(job.run_root, str(job.name)).glob(f"*{digest}")):
        return known.name
    overrides = (o.lstrip("+~").partition("=") for o in _root_.hydra.overrides.task)
    named = sorted((key, value) for key, _, value in overrides if not _is_execution(key) and key not in UNNAMED_GROUPS)
    readable = "_".join(_readable(key, value) for key, value in named)
    return "-".join(filter(None, [readable[:100].strip("-_."), digest]))


def numbers_changing(config: Any) -> dict[str, Any]:
    """Dotted keys and values of a resolved configuration that decide about numbers; what only says how, where or how
    visibly to execute is left out, and files and folders are reduced to their own name."""
    leaves = {key: value for key, value in _leaves(config) if not _is_execution(key)}
    return leaves | {key: Path(leaves[key]).name for key in LOCATION_KEYS if leaves.get(key)}


def register() -> None:
    """Make both known to Hydra; must run before composing. Safe to call again."""
    Plugins.instance().register(ExperimentsOnSearchPath)
    OmegaConf.register_new_resolver("run_id", run_id, replace=True)


def _is_execution(key: str) -> bool:
    return any(key == known or key.startswith(known + ".") for known in EXECUTION_KEYS)


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and plain values of nested dictionaries; lists count as values."""
    if not isinstance(node, dict):
        yield prefix, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))


def _readable(key: str, value: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", f"{key.rsplit('.', 1)[-1]}-{value.rsplit('/', 1)[-1]}")
