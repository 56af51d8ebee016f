"""The labelled pictures that `segmenter compare` and `segmenter gallery` work on, and models that fit them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from segmenter_pl.commands import datasets as d

if TYPE_CHECKING:
    from segmenter_pl.data.classes import Classes
    from segmenter_pl.data.dataset import SegmentationDataset
    from segmenter_pl.predictor import Predictor

TRAINING = "training"  # as --dataset: the one that the checkpoint was trained on


def labelled_set(
    dataset: str, root: Path | None, split: str, settings: Sequence[str], checkpoint: Path
) -> tuple[str, SegmentationDataset]:
    """The name of a dataset, and the labelled pictures of its split.

    Args:
        dataset: a name or a folder, or "training" for the checkpoint's own. root, settings: as typed.

    Raises: FileNotFoundError, ValueError where it cannot be found or read, or has no labels.
    """
    from segmenter_pl.inspection import split_of, training_data

    if dataset == TRAINING:
        if settings:
            raise ValueError(f"--set {settings[0]} goes with --dataset NAME: the training's settings stay as they were")
        name, datamodule = training_data(checkpoint, **({} if root is None else {"root": str(root)}))
    else:
        name, datamodule = d.opened(dataset, settings, root)
    pictures = split_of(datamodule, split)
    if not pictures.labelled:
        raise ValueError(f"--split {split} of {name} has no labels to compare with: give another")
    return name, pictures


def find_picture(word: str, dataset: SegmentationDataset) -> int:
    """The index of the picture with this file, name, or last part of a name. Raises: ValueError."""
    from segmenter_pl.data.pairs import PairDataset

    names = [dataset.name(index) for index in range(len(dataset))]
    if word in names:
        return names.index(word)
    if isinstance(dataset, PairDataset) and Path(word).is_file():
        files = [path.resolve() for path in dataset.pictures]
        if (path := Path(word).resolve()) in files:
            return files.index(path)
    matches = [index for index, name in enumerate(names) if name.rpartition("/")[2] == word]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"{word} is the name of {len(matches)} pictures: give one, e.g. {names[matches[0]]}")
    near = get_close_matches(word, names, n=3) or names[:3]
    raise ValueError(f"{word} is no picture of the dataset, which has {len(names)}: give a file or a name, e.g. "
                     f"{', '.join(near)}")  # fmt: skip


def require_same_classes(models: Sequence[tuple[str, Predictor]], data: tuple[str, Classes] | None = None) -> None:
    """Raise ValueError for models, or models and a dataset, with other classes; names count where they are known."""
    tables: list[tuple[str, int, tuple[str, ...] | None]]
    tables = [(f"dataset {data[0]}", len(data[1]), data[1].names)] if data else []
    for who, predictor in models:
        spec = getattr(predictor.model, "spec", None)
        tables.append((who, predictor.model.num_classes, spec.classes if spec else None))
    first, count, known = tables[0]
    for who, number, names in tables[1:]:
        if number != count:
            raise ValueError(f"{who} has {number} classes and {first} has {count}: give what has the same classes")
        if known is None:
            first, known = who, names
        elif names not in (None, known):
            k = next(k for k in range(count) if names[k] != known[k])
            raise ValueError(
                f"{who} has other classes than {first}: class {k} is {names[k]!r} and not {known[k]!r}; give what has "
                "the same classes"
            )
