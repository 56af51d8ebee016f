"""How runs differ, in the words that were typed: chosen options of groups, and departures from what these say."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from segmenter_pl.choices import choices, read_choice
from segmenter_pl.identity import numbers_changing

# Of each group: the keys of the configuration that its option sets, and the one that tells the option.
GROUPS = {
    "backbone": (("backbone",), "backbone.model_name"),
    "decoder": (("decoder",), "decoder._target_"),
    "dataset": (("dataset",), "dataset._target_"),
    "optimizer": (("optimizer", "schedule", "decoder_lr_scale"), "optimizer._target_"),
}
OWNED = [key for keys, _ in GROUPS.values() for key in keys]
MISSING = object()


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys and values of everything in a configuration that changes numbers; lists count as values."""
    return numbers_changing(dict(config))


@cache
def _options(group: str) -> dict[str, dict[str, Any]]:
    """Dotted keys and values of each option's YAML, unresolved."""
    found = {}
    for name in choices(group):
        content = read_choice(group, name)
        found[name] = numbers_changing(content if group == "optimizer" else {group: content})
    return found


def option(config: Mapping[str, Any], group: str) -> str:
    """The option of a group that a resolved configuration was made with; what tells it, if it is none of ours.

    A dataset goes by its own name.
    """
    return _option(flat(config), group)[0]


def _option(leaves: Mapping[str, Any], group: str) -> tuple[str, dict[str, Any]]:
    """Its name, and what departs from it: of the options that could be meant, the one with the fewest departures."""
    keys, tells = GROUPS[group]
    told = leaves.get(tells)
    possible = {name: given for name, given in _options(group).items() if given.get(tells) == told}
    if not possible:
        others = {key: value for key, value in leaves.items() if key.partition(".")[0] in keys and key != tells}
        return str(told).rpartition(".")[2] if tells.endswith("_target_") else str(told), others
    departing = {name: _departures(leaves, keys, given) for name, given in possible.items()}
    name = min(departing, key=lambda one: len(departing[one]))
    if group == "dataset":
        departing[name].pop("dataset.name", None)
        return str(leaves.get("dataset.name", name)), departing[name]
    return name, departing[name]


def _departures(leaves: Mapping[str, Any], keys: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    departing = {}
    for key, value in leaves.items():
        if key.partition(".")[0] in keys:
            expected = given.get(key, MISSING)
            if isinstance(expected, str) and expected.startswith("${"):
                expected = leaves.get(expected[2:-1], value)
            if expected != value:
                departing[key] = value
    return departing


def overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """Chosen options by group (`backbone`: vit_s16) and, by dotted key, what departs from them or belongs to none."""
    leaves = flat(config)
    chosen: dict[str, Any] = {}
    for group in GROUPS:
        name, departing = _option(leaves, group)
        chosen |= {group: name, **departing}
    rest = {key: value for key, value in leaves.items() if key.partition(".")[0] not in OWNED}
    if rest.get("trainer.max_steps") == leaves.get("dataset.max_steps"):
        rest.pop("trainer.max_steps", None)
    return chosen | rest


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of groups and dotted keys in which configurations differ, the seed left out."""
    each, leaves = [overrides(one) for one in configs], [flat(one) for one in configs]
    found = []
    for key in dict.fromkeys(key for one in each for key in one):
        values = {str(one.get(key, leaf.get(key))) for one, leaf in zip(each, leaves, strict=True)}
        if len(values) > 1:
            found.append(key)
    return found


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """What a configuration says of a group (`backbone`) or a dotted key; None if it has none."""
    if key in GROUPS:
        return option(config, key)
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
