"""Published models by name: what they are, and their files, fetched once into a cache and checked ever after."""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import requests

from segmenter_pl.files import fresh
from segmenter_pl.prepare.download import download

CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Entry:
    """A row of a published table.

    Attributes:
        name: ours. source: whose table. dataset: as in `dataset=NAME`. method: their name of it.
        parameters_millions: as published. miou_ss, miou_ms: published mIoU on val, per cent, single scale and with
            scales and mirrors; None where none is published. window, stride, short_side: of its evaluation, pixels.
        pixels: "vit" (mean and std 0.5) or "deit" (ImageNet's).
        address: addresses of its files, or of the page to fetch them from by hand.
    """

    name: str
    source: str
    dataset: str
    method: str
    parameters_millions: float
    miou_ss: float
    miou_ms: float | None
    window: int
    stride: int
    short_side: int
    pixels: str
    address: str

    @property
    def urls(self) -> list[str]:
        """Addresses of its files; none where it can only be fetched by hand."""
        return [] if "(" in self.address else self.address.split()


def entries() -> dict[str, Entry]:
    """All published models by name."""
    found = {}
    text = (files("segmenter_pl.zoo") / "models.csv").read_text(encoding="utf-8")
    kinds = {field.name: KINDS.get(str(field.type), str) for field in fields(Entry)}
    for row in csv.DictReader(text.splitlines()):
        found[row["name"]] = Entry(**{key: kinds[key](value) for key, value in row.items()})
    return found


KINDS: dict[str, Callable[[str], Any]] = {
    "<class 'float'>": float,
    "<class 'int'>": int,
    "float | None": lambda text: float(text) if text else None,
}


def cache_folder(name: str) -> Path:
    """Where a model's files are kept: below $SEGMENTER_CACHE, or ~/.cache/segmenter."""
    root = os.environ.get("SEGMENTER_CACHE") or Path("~/.cache/segmenter").expanduser()
    return Path(root) / "zoo" / name


def is_cached(entry: Entry) -> bool:
    """Whether all files of a model are there."""
    folder = cache_folder(entry.name)
    if not entry.urls:
        return any(folder.glob("*.pdparams"))
    return all((folder / url.rpartition("/")[2]).is_file() for url in entry.urls)


def fetch(entry: Entry) -> Path:
    """The path of a model's checkpoint in the cache; downloaded on first use, when its SHA-256 is noted.

    Raises: FileNotFoundError where it has no address, or it cannot be reached; ValueError for a file that has changed
        since, or is not what its name says.
    """
    folder = cache_folder(entry.name)
    if not entry.urls:
        files = list(folder.glob("*.pdparams"))
        if len(files) != 1:
            raise FileNotFoundError(
                f"{entry.name} can only be fetched by hand, from {entry.address}: put its .pdparams file (one) into "
                f"{folder}"
            )
        _verify(files[0])
        return files[0]
    by_hand = f"by hand: fetch {' and '.join(entry.urls)} and put them into {folder}"
    for url in entry.urls:
        path = folder / url.rpartition("/")[2]
        if not path.is_file():
            try:
                download(url, path, requests.Session(), by_hand, tries=2)
            except OSError as error:
                raise FileNotFoundError(f"{entry.name} is not in the cache: {error}") from error
        _verify(path)
    return folder / entry.urls[0].rpartition("/")[2]


def _recorded(record: Path) -> dict[str, str]:
    try:
        known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        if isinstance(known, dict) and all(isinstance(value, str) for value in known.values()):
            return known
    except ValueError:
        pass
    raise ValueError(f"{record} cannot be read: remove it, and the files beside it unless you know them to be right")


def _verify(path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    record = path.with_name(CHECKSUMS)
    known = _recorded(record)
    # MMSegmentation's names end in the first eight digits.
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    expected = known.get(path.name) or (named.group(1) if named else found)
    if not found.startswith(expected):
        raise ValueError(
            f"{path} is not what was fetched at first, or what its name says (SHA-256 {found[:16]}…, expected "
            f"{expected[:16]}…): remove it to fetch it again"
        )
    if path.name not in known:
        with fresh(record) as temporary:
            temporary.write_text(json.dumps({**known, path.name: found}, indent=1))
