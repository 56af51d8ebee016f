"""Where an archive is taken from, and whether it is the right one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segmenter_pl.prepare.progress import progress
from segmenter_pl.prepare.recipe import Archive, Recipe

CHUNK = 1 << 20


def locate(archive: Archive, recipe: Recipe, sources: Sequence[str]) -> Path | str:
    """A file on this disk, or an address.

    Args:
        sources: as `--source`: folders that hold archives by their names, archive files (a single one for a single
            archive may have any name), and base addresses of mirrors, which serve what no folder or file does. Without
            any, it is the official address.

    Raises: FileNotFoundError for a source that does not exist, or none that has the archive.
    """
    if not sources:
        return archive.url
    mirrors = [source for source in sources if "://" in source]
    places = [Path(source) for source in sources if "://" not in source]
    for place in places:
        if not place.exists():
            raise FileNotFoundError(f"--source {place} does not exist: give a folder, an archive or an address")
        files = [place] if place.is_file() else sorted(path for path in place.iterdir() if path.is_file())
        only = place.is_file() and len(recipe.archives) == len(sources) == 1
        if found := [path for path in files if only or path.name.lower() == archive.name.lower()]:
            return found[0]
    if mirrors:
        return f"{mirrors[0].rstrip('/')}/{archive.name}"
    official = archive.url.removesuffix(f"/{archive.name}")
    ways = f", or --source {official} to download it" if official != archive.url else ""
    raise FileNotFoundError(
        f"{archive.name} is in none of --source {', '.join(map(str, places))}: add --source FILE for it{ways}. "
        f"{recipe.by_hand}"
    )


@dataclass(frozen=True)
class Fingerprint:
    """A file's checksum, as in `Archive`, and its size in bytes."""

    checksum: str
    size: int


def fingerprint(path: Path, archive: Archive) -> Fingerprint:
    """Read a file through, with the algorithm of the archive's published checksum, or SHA-256."""
    algorithm = (archive.checksum or "sha256:").partition(":")[0]
    digest, size = hashlib.new(algorithm, usedforsecurity=False), path.stat().st_size
    with path.open("rb") as file, progress(f"checking {archive.name}", size) as advance:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return Fingerprint(f"{algorithm}:{digest.hexdigest()}", size)
