"""Words where numbers are wanted, and the like, refused before anything is built."""

from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

FREE_TYPES = ("trainer.devices", "trainer.deterministic")  # Lightning takes words too: auto, warn

# The smallest number that makes sense; some may be null.
BOUNDS = {
    "seed": 0,
    "checkpoint_every": 1,
    "nonfinite_limit": 0,
    "bad_sample_limit": 0,
    "dataset.batch_size": 1,
    "dataset.num_workers": 0,
    "dataset.val_every": 1,
    "dataset.train_images": 1,
    "trainer.max_steps": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.gradient_clip_val": 0,
}
NULLABLE = ("dataset.train_images", "trainer.gradient_clip_val")


def check_bounds(config: DictConfig) -> None:
    """Raise ValueError for a number below what makes sense, or none where one is needed; keys that are absent pass."""
    for key, least in BOUNDS.items():
        above, _, leaf = key.rpartition(".")
        group = OmegaConf.select(config, above) if above else config
        if group is None or leaf not in group or (group[leaf] is None and key in NULLABLE):
            continue
        if not isinstance(group[leaf], int | float) or group[leaf] < least:
            raise ValueError(f"{key}={group[leaf]}: give a number, {least} or more")


def check_overrides(config: DictConfig) -> None:
    """Refuse words where numbers are wanted, and the like, before anything is built or written.

    Inside a Hydra job only: each setting of the command line is compared with the type of its default, which comes
    from composing the same groups without settings. Where the default is null, anything goes.

    Raises ValueError that names the setting.
    """
    job = HydraConfig.get()
    words = [(word, *word.lstrip("+~").partition("=")[::2]) for word in job.overrides.task]
    groups = [word for word, key, _ in words if key.partition("@")[0] in job.runtime.choices]
    default = GlobalHydra.instance().config_loader().load_configuration(job.job.config_name, groups, RunMode.RUN)
    for word, key, text in words:
        if word in groups or word.startswith("~") or key in FREE_TYPES:
            continue
        usual, value = (OmegaConf.select(one, key, throw_on_resolution_failure=False) for one in (default, config))
        wanted = _wanted(usual, value)
        if wanted:
            example = "…" if isinstance(usual, DictConfig) else str(usual).lower()
            raise ValueError(f"{key}={text} must be {wanted} (the default is {example}): correct the value")


def _wanted(usual: Any, value: Any) -> str | None:
    """What `value` should have been, going by the default `usual`; None where it may well be right."""
    if usual is None or value is None:
        return None
    if isinstance(usual, DictConfig):
        return None if isinstance(value, DictConfig) else f"a group of settings ({', '.join(map(str, usual))})"
    if isinstance(usual, ListConfig):
        return None if isinstance(value, ListConfig) else "a list such as [1,2]"
    if isinstance(usual, bool):
        return "true or false" if isinstance(value, str) else None
    if isinstance(usual, int):
        return "a whole number" if isinstance(value, str | float | bool) else None
    return "a number" if isinstance(usual, float) and isinstance(value, str | bool) else None
