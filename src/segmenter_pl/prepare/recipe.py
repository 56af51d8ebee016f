"""What `segmenter prepare` has to know of a dataset."""

import filecmp
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from segmenter_pl.data.published import PublishedDataModule, unpublished

Counts = dict[str, int]  # pictures by split


@dataclass(frozen=True)
class Archive:
    """A file to download: its official name and address, and its checksum as `algorithm:hexadecimal` if known."""

    name: str
    url: str
    checksum: str | None = None


def merged(extracted: Mapping[str, Path], tree: Path) -> None:
    """Move what all archives hold into one tree."""
    for folder in extracted.values():
        merge(folder, tree)


@dataclass(frozen=True)
class Recipe:
    """A dataset, or a part that can be had by itself.

    Attributes:
        key: name in the record. terms: what its owners ask of the user. by_hand: how to get it without this command.
        archives: what to download. brings: top-level names that are in the finished folder.
        count: gives the pictures of each split below a folder; raises FileNotFoundError for one without its partner.
        sizes: published numbers by split; empty where none is known. total: likewise over all splits.
        arrange: builds the dataset's tree from the unpacked archives (by name), also where an earlier try broke off.
        complete: makes what a copy of the user's own may lack, and returns the files that it made.
        session: for the official addresses.
    """

    key: str
    terms: str
    by_hand: str
    archives: tuple[Archive, ...]
    brings: tuple[str, ...]
    count: Callable[[Path], Counts]
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    total: int | None = None
    arrange: Callable[[Mapping[str, Path], Path], None] = merged
    complete: Callable[[Path], list[Path]] = lambda root: []
    session: Callable[[], requests.Session] = requests.Session

    def differences(self, counts: Counts) -> list[str]:
        """Where the counts are not the published ones, in words."""
        wrong = [text for split in self.sizes if (text := unpublished(self.sizes, split, counts.get(split, 0)))]
        number = sum(counts.values())
        if self.total and number != self.total:
            wrong.append(f"{number} pictures in all, published are {self.total} ({number - self.total:+d})")
        return wrong


def pairs(module: type[PublishedDataModule], splits: Sequence[str]) -> Callable[[Path], Counts]:
    """A `Recipe.count` that lists files through a dataset's own data module; contents are not read."""

    def count(root: Path) -> Counts:
        try:
            data = module(root, batch_size=1, crop=32)
        except FileNotFoundError as error:  # it would advise to run this command
            raise FileNotFoundError(f"{root} does not hold {module.dataset_name}; {module.layout}") from error
        counts = {}
        for split in splits:
            files = data.files(split)
            files.require_partners(module.layout)
            if not files.pictures:
                raise FileNotFoundError(f"no pictures of split={split} in {root}; {module.layout}")
            counts[split] = len(files.pictures)
        return counts

    return count


def merge(source: Path, target: Path) -> None:
    """Move what `source` holds into `target`, folder by folder; of two equal files one goes.

    It can be cut off at any moment and started again. Raises: FileExistsError for two different files of one name.
    """
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if not place.exists() and not place.is_symlink():
            entry.rename(place)
        elif entry.is_dir() and place.is_dir() and not place.is_symlink():
            merge(entry, place)
        elif entry.is_file() and place.is_file() and filecmp.cmp(entry, place, shallow=False):
            entry.unlink()
        else:
            raise FileExistsError(
                f"{place} is there, and is not the file of that name that was prepared. Move it away, "
                "then the same command continues"
            )
