"""What Hydra must know before it composes: where `experiments/` is, and how a run directory is named."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from segmenter_pl.identity import LOCATION_KEYS, is_execution, numbers_changing

# Choices of whole groups that the readable part leaves out: two stand in the name, the third says where to execute.
UNNAMED_GROUPS = ("experiment", "ablation", "trainer")


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
    _refuse_elsewhere(job)
    leaves = numbers_changing(OmegaConf.to_container(job, resolve=True))
    digest = hashlib.sha256(json.dumps(leaves, sort_keys=True, default=str).encode()).hexdigest()[:8]
    for known in sorted(Path(job.run_root, str(job.name)).glob(f"*{digest}")):
        return known.name
    words = [word for word in _words(_root_.hydra.overrides.task) if word[0] not in UNNAMED_GROUPS]
    swept = _root_.hydra.sweeper.get("params")  # the others stand in the name of the ablation, see `sweep_id`
    return _named([word for word in words if not swept or word[0] in swept], digest)


def _refuse_elsewhere(job: DictConfig) -> None:
    """Raises ValueError for settings with which a run would lie at the top of the disk, or outside of its root."""
    if not str(job.run_root):
        raise ValueError("run_root is empty (SEGMENTER_RUNS too?): give a folder, or . for this one")
    if not isinstance(job.name, str | int) or ".." in Path(str(job.name)).parts:
        raise ValueError(f"name={job.name}: give a word or folders below run_root, without ..")


def sweep_id(*, _root_: DictConfig) -> str:
    """What an ablation is run over: readable overrides and 8 hex digits over all of them but the swept ones.

    All jobs of a sweep get the same, and so share a directory; another dataset or budget gets another one.
    Raises ValueError outside a run of Hydra, where the overrides are not known.
    """
    hydra = _root_.hydra if "hydra" in _root_ else HydraConfig.get()
    swept = hydra.sweeper.get("params") or {}
    words = [
        (key, Path(value).name if key in LOCATION_KEYS else value)
        for key, value in _words(hydra.overrides.task)
        if key not in (*swept, "ablation", "trainer")
    ]
    return _named(words, hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8])


def chosen(group: str, *, _root_: DictConfig) -> str | None:
    """The option of a group that this job runs with; None outside a run of Hydra."""
    if "hydra" not in _root_ and not HydraConfig.initialized():
        return None
    hydra = _root_.hydra if "hydra" in _root_ else HydraConfig.get()
    return hydra.runtime.choices.get(group)


def _words(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Keys and values of overrides that change numbers, sorted."""
    split = (word.lstrip("+~").partition("=") for word in overrides)
    return sorted((key, value) for key, _, value in split if not is_execution(key))


def _named(words: Sequence[tuple[str, str]], digest: str) -> str:
    readable = "_".join(_readable(key, value) for key, value in words)
    return "-".join(filter(None, [readable[:100].strip("-_."), digest]))


def share(part: float, whole: int) -> int:
    """A part of a whole number: ``${share:0.1,${trainer.max_steps}}``, since YAML cannot multiply."""
    return round(float(part) * int(whole))


def slurm(variable: str) -> int:
    """A number that srun tells its tasks: ``${slurm:SLURM_NNODES}``. Raises ValueError where there is none."""
    if variable not in os.environ:
        raise ValueError(
            f"trainer=slurm: {variable} is not set. Start the run with `srun --nodes=N --ntasks-per-node=M`, or take "
            "trainer=ddp, or torchrun with trainer=ddp trainer.num_nodes=N"
        )
    return int(os.environ[variable])


def register() -> None:
    """Make them known to Hydra; must run before composing. Safe to call again."""
    Plugins.instance().register(ExperimentsOnSearchPath)
    OmegaConf.register_new_resolver("run_id", run_id, replace=True)
    OmegaConf.register_new_resolver("sweep_id", sweep_id, replace=True)
    OmegaConf.register_new_resolver("chosen", chosen, replace=True)
    OmegaConf.register_new_resolver("share", share, replace=True)
    OmegaConf.register_new_resolver("slurm", slurm, replace=True)


def _readable(key: str, value: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", f"{key.rsplit('.', 1)[-1]}-{value.rsplit('/', 1)[-1]}")
