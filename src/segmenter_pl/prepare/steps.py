"""From archives to a dataset's folder, step by step: every step is done as a whole, and found done by the next run.

All happens in ROOT/.preparing/KEY: `downloads/`, `extracted/ARCHIVE/`, `tree/` (what ROOT will hold), and `record.json`
once the tree is complete and counted. From then on the tree's parts are moved into ROOT; at last the record becomes a
part of ROOT/.prepared.json.
"""

import errno
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from segmenter_pl.locking import sole_owner
from segmenter_pl.prepare.archives import ArchiveError, extract
from segmenter_pl.prepare.download import download
from segmenter_pl.prepare.recipe import Archive, Counts, Recipe, merge
from segmenter_pl.prepare.sources import fingerprint, locate
from segmenter_pl.prepare.state import read, tidy, write

RECORD, WORK = ".prepared.json", ".preparing"


@dataclass(frozen=True)
class Options:
    """`sources`: see `locate`. `unverified`: take archives with another checksum. `keep`: keep what was downloaded."""

    sources: Sequence[str] = ()
    unverified: bool = False
    keep: bool = False


def prepare(recipe: Recipe, root: Path, options: Options) -> bool:
    """Make `root` hold a dataset, and say what was done; False if it did already.

    Raises: ValueError and OSError with what to do, e.g. because files of the user's own are in the way: none of them is
        ever changed.
    """
    with _room(root), sole_owner(root, f"another process is preparing {root}: wait for it"):
        work = root / WORK / recipe.key
        if known := read(root / RECORD).get(recipe.key):
            _recount(recipe, root, known["counts"])
            tidy(work, keep=["downloads"])
            print(f"{root} holds {recipe.key}: {told(known['counts'])}; nothing to do")
            return False
        own = [name for name in recipe.brings if os.path.lexists(root / name)]
        entry = read(work / "record.json")
        if own and not entry:
            entry = _adopt(recipe, root, own)
        else:
            entry = entry or _stage(recipe, work, options)
            if (work / "tree").is_dir():  # not where a run broke off while it cleaned up
                merge(work / "tree", root)
            _recount(recipe, root, entry["counts"])
        kept = ["downloads"] if options.keep else []
        tidy(work, keep=["record.json", *kept])
        write(work / "prepared.json", read(root / RECORD) | {recipe.key: entry})
        (work / "prepared.json").replace(root / RECORD)
        tidy(work, keep=kept)
        for line in recipe.differences(entry["counts"]):
            print(f"Warning: {recipe.key}, {line}: results will not be comparable", file=sys.stderr)
        print(f"{recipe.key} is in {root}: {told(entry['counts'])}")
        return True


@contextmanager
def _room(root: Path) -> Iterator[None]:
    """Say what to do where the disk is full; the errors that say it themselves carry no number."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            f"{error.filename or root} cannot be written ({error.strerror}): make room, then the same command "
            "continues where it stopped"
        ) from error


def told(counts: Counts) -> str:
    """Numbers of pictures, in words."""
    return ", ".join(f"{number} {split}" for split, number in counts.items()) + " pictures"


def _stage(recipe: Recipe, work: Path, options: Options) -> dict[str, Any]:
    """Build the tree. Returns the record, which is in `record.json` then."""
    folders = {archive.name: work / "extracted" / archive.name for archive in recipe.archives}
    todo = [archive for archive in recipe.archives if not folders[archive.name].is_dir()]
    places = [locate(archive, recipe, options.sources) for archive in todo]
    print(recipe.terms, flush=True)  # before hours of download
    session = requests.Session() if options.sources or not todo else recipe.session()
    for archive, place in zip(todo, places, strict=True):
        path = work / "downloads" / archive.name if isinstance(place, str) else place
        if isinstance(place, str) and not path.exists():
            download(place, path, session, recipe.by_hand)
        _unpack(archive, path, folders[archive.name], options.unverified, ours=isinstance(place, str))
    try:
        recipe.arrange(folders, work / "tree")
        counts = recipe.count(work / "tree")
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{error}\nIf other archives are needed, remove {work} first, which holds these") from error
    archives = {name: read(_facts(folder)) for name, folder in folders.items()}
    entry = {"counts": counts, "archives": archives}
    write(work / "record.json", entry)
    return entry


def _unpack(archive: Archive, path: Path, folder: Path, unverified: bool, *, ours: bool) -> None:
    """Verify and unpack; what we downloaded and cannot use is out of the way then."""
    facts = fingerprint(path, archive)
    if not unverified and archive.checksum and facts.checksum != archive.checksum:
        if ours:
            path = _set_aside(path)
        raise ValueError(
            f"{path} is not the published {archive.name}: its checksum is {facts.checksum}, expected is "
            f"{archive.checksum}. Get it again{' with the same command' if ours else ''}; or, if you trust it: "
            f"--source {shlex.quote(str(path))} --unverified"
        )
    write(_facts(folder), {"checksum": facts.checksum, "size": facts.size})
    try:
        extract(path, folder)
    except ArchiveError as error:
        if not ours:
            raise
        raise ValueError(f"{error} (it is moved to {_set_aside(path)}, where it may be deleted)") from error


def _set_aside(path: Path) -> Path:
    place = path.parent / "refused" / path.name
    place.parent.mkdir(exist_ok=True)
    return path.replace(place)


def _facts(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _adopt(recipe: Recipe, root: Path, own: Sequence[str]) -> dict[str, Any]:
    """The record of a copy that the user has put there, if it is the published dataset. Raises: ValueError."""
    made: list[Path] = []
    try:
        made = recipe.complete(root)
        counts = recipe.count(root)
        problem = "; ".join(recipe.differences(counts))
    except (FileNotFoundError, ValueError) as error:
        problem = str(error)
    if problem:
        for path in made:
            path.unlink()
        raise ValueError(
            f"{root} holds {', '.join(own)} already, which this command did not make, and it is not the complete "
            f"dataset: {problem}. Nothing was changed. Choose another --root, or move that away; or train with it as "
            "it is, if you mean it to be so"
        )
    return {"counts": counts, "archives": {}}


def _recount(recipe: Recipe, root: Path, expected: Counts) -> None:
    way_out = (
        f"Put back what is missing; or move the dataset's files away ({', '.join(recipe.brings)}), remove "
        f"{root / RECORD}, and prepare it again"
    )
    try:
        counts = recipe.count(root)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{root} has changed since it was prepared: {error}. {way_out}") from error
    if counts != expected:
        raise ValueError(
            f"{root} has changed since it was prepared: it holds {told(counts)}, it held {told(expected)}. {way_out}"
        )
