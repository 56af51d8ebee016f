"""What the YAML files of `conf/` say, as plain data, without Hydra."""

from importlib.resources import files
from typing import Any

import yaml
from omegaconf import OmegaConf


def choices(group: str) -> list[str]:
    """Names of the options of a group, such as `backbone`."""
    folder = files("segmenter_pl.conf") / group
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_choice(group: str, name: str) -> dict[str, Any]:
    """The settings of one option, those of the options of its group that it builds on included, unresolved.

    Raises: ValueError: there is no such option; the message lists them.
    """
    if name not in choices(group):
        raise ValueError(f"{group}={name} does not exist; there is {', '.join(choices(group))}")
    path = files("segmenter_pl.conf") / group / f"{name}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    bases = [read_choice(group, base) for base in content.pop("defaults", ()) if base != "_self_"]
    settings = OmegaConf.to_container(OmegaConf.merge(*bases, content))
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}
