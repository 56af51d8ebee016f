"""What Hydra and OmegaConf have to say, in one sentence each: setting, value met, way out."""

import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

# Launchers that are packages of their own, by the beginning of their names.
LAUNCHERS = {"submitit": '"segmenter-pl[slurm]"', "joblib": "hydra-joblib-launcher"}


def missing_value(error: BaseException, missing: MissingMandatoryValue) -> str:
    key = str(missing.full_key)
    config = local_of(error, "config")
    names = OmegaConf.missing_keys(config) if isinstance(config, DictConfig) else ()
    key = next((name for name in sorted(names) if name.split(".")[-1] == key.split(".")[-1]), key)
    return f"{key} has no value yet (???): give {key}=VALUE"


def unknown_option(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    for prefix, package in LAUNCHERS.items():
        if group == "hydra/launcher" and name.startswith(prefix):
            return f"{group}={name} needs a package that is not installed: pip install {package}"
    if not error.options:
        return lines_of(str(error))[0]
    options = ", ".join(error.options)
    return (
        f"{group}={name}: there is no such option{_meant(get_close_matches(name, error.options))}; there is {options}"
    )


def not_composed(error: CompactHydraException) -> str:
    override, config, defaults = (local_of(error, name) for name in ("override", "cfg", "defaults_list"))
    if str(error).startswith("Could not override") and override is not None and isinstance(config, DictConfig):
        return _unknown_key(override, config, defaults)
    reason = f": {lines_of(str(error.__cause__))[0]}" if isinstance(error.__cause__, OmegaConfBaseException) else ""
    return str(error).strip() + reason


def _unknown_key(override: Any, config: DictConfig, defaults: Any) -> str:
    """With what resembles it; never with Hydra's advice to add the key, which nobody would read if it is misspelt."""
    key, typed = override.key_or_group, override.input_line
    tree = OmegaConf.to_container(config, resolve=False)
    assert isinstance(tree, dict)
    names = [*_dotted({name: value for name, value in tree.items() if name != "hydra" or key.startswith("hydra")})]
    groups = [name for name in defaults.overrides.known_choices if "/" not in name] if defaults else []
    sentence = f"{typed}: there is no setting {key}"
    if close := _closest(key, [*names, *groups]):
        return f"{sentence}{_meant(close)}"
    above = key.rpartition(".")[0]
    parent = OmegaConf.select(config, above) if above in names else None
    if above in names and not parent:
        return f"{sentence}, because {above} is null; +{typed} adds it"
    if isinstance(parent, DictConfig) and "_target_" in parent:
        return f"{sentence}; +{typed} hands it to {parent._target_}, if that takes it"
    return f"{sentence}; `{_program()} --cfg job` lists them all"


def not_built(error: InstantiationException) -> str:
    """Hydra's own words in one line; an unknown keyword opens with the word of the command line that it comes from."""
    text, cause = str(error), error.__cause__
    target, key = re.search(r"target '([\w.]+)'", text), re.search(r"full_key: (\S+)", text)
    reason = " ".join(lines_of(str(cause) if cause else text.partition("\nfull_key")[0])[:2])
    keyword = re.search(r"unexpected keyword argument '(\w+)'", reason)
    typed = [word for word in sys.argv[1:] if keyword and re.match(rf"\+*[\w.]*\b{keyword[1]}=", word)]
    found = [match[1] for match in (key, target) if match]
    return ": ".join([*typed, *found, reason])


def local_of(error: BaseException, name: str) -> Any:
    """A local variable of that name in the outermost function of the traceback that has it."""
    frames = (frame.f_locals.get(name) for frame, _ in traceback.walk_tb(error.__traceback__))
    return next((value for value in frames if value is not None), None)


def _dotted(tree: dict[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")


def _closest(key: str, names: Iterable[str]) -> list[str]:
    """Up to two of the names: those that end in the same word, else those that are spelt alike."""
    above, dot, leaf = key.rpartition(".")
    names = list(dict.fromkeys(names))
    same = [name for name in names if name.rpartition(".")[2] == leaf]
    beside = [name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == above]
    return (
        same
        or [above + dot + name for name in get_close_matches(leaf, beside)]
        or get_close_matches(key, names, cutoff=0.8)
    )[:2]


def _meant(names: list[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()] or [""]


def _program() -> str:
    name = Path(sys.argv[0]).name
    return f"python {name}" if name.endswith(".py") else name
