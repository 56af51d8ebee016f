"""What is to be measured: settings as they are typed, checked and counted before the first step runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from segmenter_pl import build, report, searchpath
from segmenter_pl.analysis.matching import Published, expected, facts
from segmenter_pl.analysis.published import names_of_tables, published_rows, table_name
from segmenter_pl.analysis.runs import Run
from segmenter_pl.benchmarking.counting import Counts, count
from segmenter_pl.data.published import PublishedDataModule
from segmenter_pl.faults import check_bounds, check_overrides

NO_WEIGHTS = ("backbone.pretrained=false", "backbone.weights=null")  # speed does not depend on them
SPEEDS = ("images_per_second_v100_512", "frames_per_second", "frames_per_second_v100")
MEMORY = "memory_gb"
SAME_MODEL = ("dataset", "backbone", "patch_size", "decoder", "crop")


@dataclass(frozen=True)
class Variant:
    """A model to be measured.

    Attributes:
        words: the overrides it was made with. settings: its resolved configuration. num_classes: K.
        device: kind of the device it will run on. counts: of one picture.
        published: the row of a published table that it stands for, or is the same model as; None where there is none.
    """

    words: tuple[str, ...]
    settings: dict[str, Any]
    num_classes: int
    device: str
    counts: Counts
    published: Published | None

    @property
    def least_batch(self) -> int:
        """Pictures at once that training needs: two where maps of one cell are normalised over the batch."""
        return 2 if self.settings["backbone"]["_target_"].endswith(".PyramidEncoder") else 1

    @property
    def facts(self) -> dict[str, Any]:
        """Dataset, backbone, patch_size, decoder, crop and more, as `analysis.published.facts`."""
        return facts(Run(Path(), "", "", self.settings))


def swept(words: Sequence[str]) -> list[tuple[str, ...]]:
    """The overrides of each combination: `backbone=a,b` is two, as in a sweep of train.py.

    Raises: ValueError for words that are no overrides.
    """
    if strange := [word for word in words if "=" not in word and not word.startswith("~")]:
        raise ValueError(f"{strange[0]} is no setting: write KEY=VALUE, as for train.py")
    options: list[list[str]] = []
    for one in OverridesParser.create().parse_overrides(list(words)):
        if not one.is_sweep_override():
            options.append([str(one.input_line)])
        elif one.value_type is ValueType.GLOB_CHOICE_SWEEP:
            raise ValueError(f"{one.input_line}: write the values out, {one.key_or_group}=A,B,C")
        else:
            options.append([f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()])
    return [tuple(words) for words in product(*options)]


def paper_rows(name: str) -> list[Published]:
    """The rows of a published table that are models of ours and have a speed.

    Raises: ValueError for a table that has none; the message lists those that have.
    """
    rows = [row for row in published_rows() if row.decoder in ("linear", "mask") and row.values.keys() & {*SPEEDS}]
    found = [row for row in rows if table_name(row) == name]
    if not found:
        raise ValueError(f"--paper {name}: speeds stand in {', '.join(names_of_tables(rows))}")
    return found


def variant(
    words: Sequence[str], *, classes: int | None = None, device: str | None = None, row: Published | None = None
) -> Variant:
    """Compose, check and count one model.

    Args:
        words: overrides of train.py. classes: K; None for the dataset's own.
        device: cpu, cuda, cuda:1, mps; None for what `trainer` says. row: the published row that it stands for.
    Raises: ValueError, FileNotFoundError or an error of Hydra's for settings that do not fit.
    """
    with _composed([*words, *NO_WEIGHTS]) as config:
        num_classes = classes or _class_number(config)
        if isinstance(config.loss.class_weights, str):
            config.loss.class_weights = [1.0] * num_classes  # their values do not matter, and the labels are not there
        _one_device(config, device)
        report.quiet_lightning()
        place = build.build_evaluator(config, []).strategy.root_device  # refuses devices and precisions
        counts = count(config, num_classes)
        settings = build.plain(config)
    found = Variant(tuple(words), settings, num_classes, place.type, counts, row)
    return found if row else replace(found, published=same_model(found.facts))


def same_model(fact: Mapping[str, Any]) -> Published | None:
    """The first published row with a single-scale mIoU of the same model, trained in the usual way."""
    for row in published_rows():
        usual = row.decoder in ("linear", "mask") and "=" not in row.setting and "miou_ss" in row.values
        if usual and all(fact[key] == value for key, value in expected(row).items() if key in SAME_MODEL):
            return row
    return None


@contextmanager
def _composed(words: list[str]) -> Iterator[DictConfig]:
    """The configuration of train.py, with its checks."""
    searchpath.register()
    with initialize_config_module("segmenter_pl.conf", version_base="1.3"):
        whole = compose("train", overrides=words, return_hydra_config=True)
        HydraConfig.instance().set_config(whole)
        try:
            config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
            check_overrides(config)
            check_bounds(config)
            yield config
        finally:
            HydraConfig.instance().cfg = None


def _class_number(config: DictConfig) -> int:
    """K of the configured dataset; a published one need not be there."""
    module = get_class(config.dataset._target_)
    with TemporaryDirectory() as empty:
        if issubclass(module, PublishedDataModule):
            for marker in module.markers:  # its folders, without files: only the class table is asked for
                (Path(empty) / marker).mkdir(parents=True)
            config = config.copy()
            config.dataset.root = empty
        return len(build.build_datamodule(config).classes)


def _one_device(config: DictConfig, device: str | None) -> None:
    kind, colon, number = (device or "").partition(":")
    if colon and not (kind == "cuda" and number.isdecimal()):
        raise ValueError(f"--device {device}: give cpu, cuda, cuda:1 or mps")
    if kind:
        config.trainer.accelerator = kind
    config.trainer.devices = [int(number)] if number else 1
    config.trainer.strategy, config.trainer.num_nodes = "auto", 1
