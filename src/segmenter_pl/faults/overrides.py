"""Words where numbers are wanted, and the like, refused before anything is built."""

from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from segmenter_pl.faults.secrets import check_secrets, resolved

# Paths and names, which Hydra takes for numbers where they look like some; of these some may be null.
TEXTS = (
    *("ckpt", "split", "resume", "run_root", "data_root", "wandb", "submission", "backbone.weights"),
    *(f"dataset.{key}" for key in ("root", "classes_file", "train_split", "val_split")),
)
NEEDED = ("ckpt", "split", "resume", "run_root", "data_root", "dataset.train_split", "dataset.val_split")
FREE_TYPES = ("trainer.devices", "trainer.deterministic")  # Lightning takes words too: auto, warn
LISTS_TOO = ("backbone.image_size", "dataset.ignore_value")  # where one number stands for several
GROUPS = {"train": ("backbone", "decoder", "optimizer", "dataset", "trainer", "loss"), "eval": ("trainer",)}
RATES = ("optimizer.", "schedule.")  # what is a number there is never null
# Where the default is null: what stands there otherwise.
INSTEAD_OF_NULL = {
    "dataset.short_side": 512,
    "dataset.train_images": 100,
    "trainer.gradient_clip_val": 1.0,
    "backbone.patch_size": 16,
    "backbone.norm_eps": 1e-6,
    "backbone.final_norm_eps": 1e-6,
}

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


def check_texts(config: DictConfig) -> None:
    """Raise ValueError for numbers, lists and groups in place of paths and names; keys that are absent pass."""
    for key in TEXTS:
        above, _, leaf = key.rpartition(".")
        group = OmegaConf.select(config, above) if above else config
        if not isinstance(group, DictConfig) or leaf not in group or OmegaConf.is_missing(group, leaf):
            continue
        value = resolved(group, leaf)
        if not isinstance(value, str) and (value is not None or key in NEEDED):
            shown = "null" if value is None else value
            raise ValueError(f"{key}={shown} must be text; a name that looks like a number is quoted: '{key}=\"3\"'")


def check_overrides(config: DictConfig) -> None:
    """Refuse words where numbers are wanted, and the like, before anything is built or written.

    Inside a Hydra job only: each setting of the command line is compared with the type of its default, which comes
    from composing the same groups without settings. Where the default is null, anything goes.

    Raises ValueError that names the setting.
    """
    check_secrets(config)
    check_texts(config)
    job = HydraConfig.get()
    for word in job.overrides.task:
        if word.startswith("~") and ("." not in word or word.startswith("~loss.")):
            raise ValueError(f"{word}: this setting is read, and cannot be taken away: give it a value, such as null")
    if gone := [
        group for group in GROUPS.get(str(job.job.config_name), ()) if not isinstance(config.get(group), DictConfig)
    ]:
        raise ValueError(f"there is no {gone[0]}: choose one with {gone[0]}=NAME")
    words = [(word, *word.lstrip("+~").partition("=")[::2]) for word in job.overrides.task]
    groups = [word for word, key, _ in words if key.partition("@")[0] in job.runtime.choices]
    default = GlobalHydra.instance().config_loader().load_configuration(job.job.config_name, groups, RunMode.RUN)
    for word, key, text in words:
        if word in groups or word.startswith("~") or key in FREE_TYPES:
            continue
        usual, value = (OmegaConf.select(one, key, throw_on_resolution_failure=False) for one in (default, config))
        wanted = _wanted(INSTEAD_OF_NULL.get(key) if usual is None else usual, value, lists=key in LISTS_TOO)
        if value is None and isinstance(usual, float) and key.startswith(RATES):
            wanted = "a number"
        if wanted:
            example = "…" if isinstance(usual, DictConfig) else "null" if usual is None else str(usual).lower()
            raise ValueError(f"{key}={text} must be {wanted} (the default is {example}): correct the value")
    _check_lists(config)


def _check_lists(config: DictConfig) -> None:
    """Raise ValueError for lists of another length than they must have, and words or numbers in their place."""
    scale = OmegaConf.select(config, "dataset.scale")
    if "scale" in (config.get("dataset") or {}) and not _is_range(scale):
        raise ValueError(f"dataset.scale={scale}: give the least and the largest factor, such as [0.5,2.0]")
    weights = OmegaConf.select(config, "loss.class_weights", throw_on_resolution_failure=False)
    if weights is not None and not isinstance(weights, str | ListConfig):
        raise ValueError(
            f"loss.class_weights={weights}: give one number per class, median_frequency, inverse_log or null"
        )


def _is_range(value: Any) -> bool:
    numbers = [*value] if isinstance(value, ListConfig) else []
    return len(numbers) == 2 and all(isinstance(one, int | float) for one in numbers) and 0 < numbers[0] <= numbers[1]


def _wanted(usual: Any, value: Any, *, lists: bool = False) -> str | None:
    """What `value` should have been, going by the default `usual`; None where it may well be right."""
    if usual is None or value is None:
        return None
    if isinstance(usual, DictConfig):
        return None if isinstance(value, DictConfig) else f"a group of settings ({', '.join(map(str, usual))})"
    if isinstance(usual, ListConfig):
        return None if isinstance(value, ListConfig) else "a list such as [1,2]"
    if isinstance(usual, bool):
        return "true or false" if isinstance(value, str | DictConfig | ListConfig) else None
    if isinstance(value, ListConfig) and lists:
        return None
    if isinstance(usual, int):
        return None if type(value) is int else "a whole number"
    return "a number" if isinstance(usual, float) and type(value) not in (int, float) else None
