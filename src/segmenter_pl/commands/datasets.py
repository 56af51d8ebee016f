"""The dataset that a command works on: by its name in conf/dataset, or by a folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

if TYPE_CHECKING:
    from segmenter_pl.data.datamodule import SegmentationDataModule

# Folders that tell a published dataset from one of the user's own.
PARTS = {
    "ADEChallengeData2016": "ade20k",
    "annotations": "ade20k",
    "leftImg8bit": "cityscapes",
    "VOCdevkit": "pascal_context",
    "JPEGImages": "pascal_context",
}

Dataset = Annotated[
    str,
    Argument(
        metavar="DATASET|ROOT",
        help="A dataset's name, as in dataset=NAME, or a folder of your own pictures (dataset=folder).",
    ),
]
Overrides = Annotated[
    list[str] | None,
    Argument(metavar="KEY=VALUE", help="Settings as for train.py, e.g. dataset.ignore_value=11.", show_default=False),
]
Root = Annotated[
    Path | None,
    Option("--root", help="The dataset's folder, dataset.root; by default $SEGMENTER_DATA/NAME, or data/NAME."),
]


def names() -> list[str]:
    """The datasets that there are a configuration for."""
    entries = (files("segmenter_pl.conf") / "dataset").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))


def opened(
    dataset: str, overrides: Sequence[str] | None, root: Path | None, *fixed: str
) -> tuple[str, SegmentationDataModule]:
    """What results are called, and the data module with the settings of a training.

    Args:
        dataset: a name, or a folder; a name wins, ./NAME is a folder in any case.
        overrides: of the user. root: `--root`. fixed: settings that the command makes, before the user's.

    Raises: ValueError for what is neither name nor folder; what composing and building raise.
    """
    from hydra import compose, initialize_config_module
    from hydra.core.hydra_config import HydraConfig

    from segmenter_pl import build, searchpath
    from segmenter_pl.faults import check_bounds, check_overrides

    name, chosen, place = _choice(dataset, root)
    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        words = [f"dataset={chosen}", *fixed, *(overrides or ())]
        config = compose("train", overrides=words, return_hydra_config=True)
        try:
            HydraConfig.instance().set_config(config)  # `check_overrides` finds there what was typed
            check_overrides(config)
        finally:
            HydraConfig.instance().cfg = None
    check_bounds(config)
    if place is not None:
        if "root" not in config.dataset.keys():  # noqa: SIM118 - `in` passes over what has no value yet
            raise ValueError(f"--root {place}: {name} has no files, leave it out")
        config.dataset.root = str(place)
    return name, build.build_datamodule(config)


def _choice(dataset: str, root: Path | None) -> tuple[str, str, Path | None]:
    """Name for results, option of the group `dataset`, and its root if one is given."""
    if dataset in names():
        return dataset, dataset, root
    folder = Path(dataset)
    if not folder.is_dir():
        raise ValueError(f"{dataset} is neither a folder nor a dataset: give a folder, or {', '.join(names())}")
    if not (folder / "classes.csv").exists():
        for part, name in PARTS.items():
            if (folder / part).is_dir():
                raise ValueError(f"{dataset} seems to be {name}: give {name} --root {shlex.quote(dataset)}")
    if root is not None:
        raise ValueError(f"--root {root} goes with a dataset's name, and {dataset} is a folder: give one of them")
    return folder.resolve().name or "root", "folder", folder
