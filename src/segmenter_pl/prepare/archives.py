"""Unpacking of zip and tar files that others have made: everything is checked before a byte is written."""

import gzip
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from segmenter_pl.prepare.download import is_page
from segmenter_pl.prepare.progress import progress

CHUNK = 1 << 20
BLOCK = 4096  # bytes that a file takes at least, on most disks
# What the standard library raises over damaged archives; NotImplementedError is of a compression that it does not know.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)


class ArchiveError(ValueError):
    """An archive that is damaged, none at all, or refused."""


@dataclass(frozen=True)
class _Member:
    """A file in an archive: its path there, bytes, checksum if the archive has one, and what opens it."""

    path: PurePosixPath
    size: int
    crc: int | None
    open: Callable[[], IO[bytes] | None]


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or a tar (also .gz) into a new folder, which is there only when all of it is.

    Refused, with nothing written: paths that lead out of the folder, links and devices, two files of one name, and more
    than the disk has room for. What macOS adds to archives (__MACOSX, ._name, .DS_Store) is left out.

    Raises: ArchiveError for a damaged or refused archive; OSError where the disk is full.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with _opened(archive) as members:
        _check(members, archive, folder)
        try:
            part.mkdir(parents=True)
            with progress(f"unpacking {archive.name}", sum(member.size for member in members)) as advance:
                for member in members:
                    _write(member, part / member.path, advance)
        except (*DAMAGE, OSError) as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, DAMAGE):
                raise
            raise OSError(
                f"{archive.name} cannot be unpacked to {folder.parent} ({error.strerror}): put that right (make "
                "room, or choose another --root), then the same command continues"
            ) from error
    part.rename(folder)


@contextmanager
def _opened(archive: Path) -> Iterator[list[_Member]]:
    """The files in an archive, to be read while the block runs."""
    try:
        if _head(archive).startswith((b"PK\3\4", b"PK\5\6")):
            with zipfile.ZipFile(archive) as file:
                yield _of_zip(file, archive)
        else:
            with tarfile.open(archive) as tar:
                yield _of_tar(tar, archive)
    except DAMAGE as error:
        reason = str(error).partition(":\n")[0]  # tarfile goes on with every way it tried
        page = is_page(_head(archive))
        what = "is a web page, not an archive" if page else f"is cut off or damaged ({reason})"
        raise ArchiveError(f"{archive} {what}: download or copy it again") from error


def _head(archive: Path) -> bytes:
    with archive.open("rb") as file:
        return file.read(512)


def _of_zip(file: zipfile.ZipFile, archive: Path) -> list[_Member]:
    members = []
    for info in file.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(archive, info.filename, "is a link or a device")
        if info.flag_bits & 1:
            raise _refused(archive, info.filename, "is encrypted")
        if (path := _path(info.filename, archive)) and not info.is_dir():
            members.append(_Member(path, info.file_size, info.CRC, lambda info=info: file.open(info)))  # type: ignore[misc]
    return members


def _of_tar(tar: tarfile.TarFile, archive: Path) -> list[_Member]:
    members = []
    for info in tar.getmembers():
        if not info.isfile() and not info.isdir():
            raise _refused(archive, info.name, "is a link or a device")
        if (path := _path(info.name, archive)) and info.isfile():
            members.append(_Member(path, info.size, None, lambda info=info: tar.extractfile(info)))  # type: ignore[misc]
    # tarfile takes a cut between two members, or a spoilt header, for the end. The real one is a block of zeros, and
    # reading on from it checks the sum over all that was compressed.
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")
    while tar.fileobj.read(CHUNK):
        pass
    return members


def _path(name: str, archive: Path) -> PurePosixPath | None:
    """A member's path below the folder; None for the folder itself and for what macOS adds. Raises: ArchiveError."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name):
        raise _refused(archive, name, "leads out of the folder")
    added = "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store"
    return path if path.parts and not added else None


def _check(members: list[_Member], archive: Path, folder: Path) -> None:
    """Drop a file's exact repetitions from `members`. Raises: ArchiveError for others; OSError for too many bytes."""
    files: dict[PurePosixPath, _Member] = {}
    for member in members:
        same = files.setdefault(member.path, member)
        if same is not member and (member.crc is None or (same.size, same.crc) != (member.size, member.crc)):
            raise _refused(archive, str(member.path), "is there twice")
    for path in files:
        if parent := next((parent for parent in path.parents if parent in files), None):
            raise _refused(archive, str(parent), "is both a file and a folder")
    members[:] = files.values()
    needed = sum(-(-member.size // BLOCK) * BLOCK for member in members)
    disk = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise OSError(
            f"{archive} unpacks to {needed / 1e9:.2f} GB, and {disk} has {free / 1e9:.2f} GB free: make room, then the "
            "same command continues; or choose another --root"
        )


def _write(member: _Member, path: Path, advance: Callable[[int], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    assert source is not None
    with source, path.open("xb") as target:
        while chunk := source.read(CHUNK):
            target.write(chunk)
            advance(len(chunk))


def _refused(archive: Path, name: str, why: str) -> ArchiveError:
    return ArchiveError(
        f"{archive} is refused, because {name!r} in it {why}; nothing of it was unpacked. Get the archive from its "
        "official source"
    )
