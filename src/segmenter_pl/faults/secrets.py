"""Passwords and keys do not belong into settings."""

import os
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

SECRET_KEY = re.compile(r"(^|_)(api_?key|token|password|passwd|secret)$", re.IGNORECASE)
SECRET_VARIABLE = re.compile(r"(KEY|TOKEN|PASSWORD|SECRET)$")  # of the environment
LEAST = 8  # characters of a secret; shorter values are met by chance


def check_secrets(config: DictConfig) -> None:
    """Refuse passwords and keys among the settings: settings are written to config.yaml, checkpoints, results and logs.

    Raises ValueError that names the setting, and not its value.
    """
    named = {os.environ[name]: name for name in os.environ if SECRET_VARIABLE.search(name)}
    variables = {value: name for value, name in named.items() if len(value) >= LEAST}
    for key, value in _leaves(config):
        name = variables.get(str(value))
        if name or (isinstance(value, str) and SECRET_KEY.search(key.rpartition(".")[2])):
            shown = f"${{oc.env:{name}}}" if name else "…"
            raise ValueError(
                f"{key}={shown} is a password or a key, and settings are written to files, checkpoints and logs: leave "
                "it out, and give it in the environment (WANDB_API_KEY, HF_TOKEN)"
            )


def _leaves(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Dotted keys and resolved values; what cannot be resolved is passed by."""
    left: list[tuple[str, Any]] = [("", config)]
    while left:
        above, node = left.pop()
        for name in node if isinstance(node, DictConfig) else range(len(node)):
            key = ".".join(filter(None, [above, str(name)]))
            value = None if OmegaConf.is_missing(node, name) else resolved(node, name)
            if isinstance(value, DictConfig | ListConfig):
                left.append((key, value))
            else:
                yield key, value


def resolved(node: DictConfig | ListConfig, name: Any) -> Any:
    """A value, or None where its interpolation leads nowhere."""
    try:
        return node[name]
    except OmegaConfBaseException:
        return None
