"""Unpacking: what comes out is what went in, and what is dangerous or damaged leaves nothing behind."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from segmenter_pl.prepare.archives import ArchiveError, extract

FILES = {
    "top/a.bin": np.random.default_rng(0).bytes(300_000),
    "top/sub/b.txt": b"text" * 5000,
    "top/empty": b"",
    "top/ä ö.txt": b"umlauts",
}
MAC = {"__MACOSX/top/._a.bin": b"x", "top/.DS_Store": b"x", "top/sub/._b.txt": b"x"}


def make(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("top")
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        folder = tarfile.TarInfo("./top")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in files.items():
            add(tar, name, content)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def found(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, match: str) -> None:
    """Nothing but the archive is there after the attempt."""
    before = {path: path.stat().st_mtime_ns for path in archive.parent.rglob("*")}
    with pytest.raises(ArchiveError, match=match) as caught:
        extract(archive, archive.parent / "out" / "new")
    assert archive.name in str(caught.value)
    assert "\n" not in str(caught.value)
    after = {path: path.stat().st_mtime_ns for path in archive.parent.rglob("*") if path.name != "out"}
    assert after == before
    assert not list((archive.parent / "out").glob("*"))


KINDS = ["a.zip", "a.tar", "a.tar.gz"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_went_in_comes_out_without_what_macos_adds(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / kind, FILES | MAC)
    left = tmp_path / "out.part"
    left.mkdir()
    (left / "of an earlier try").touch()
    extract(archive, tmp_path / "out")
    assert found(tmp_path / "out") == FILES
    assert not left.exists()


def test_names_in_old_code_pages(tmp_path: Path) -> None:
    """A zip whose names are Windows-1252 and not marked, a tar with bytes that are no UTF-8."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("top/XYZ.txt", b"content")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"XYZ", b"\xe4\xf6\xfc"))
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        add(tar, "top/äöü.txt", b"content")
    for name in ("a.zip", "a.tar"):
        extract(tmp_path / name, tmp_path / f"from {name}")
        assert list(found(tmp_path / f"from {name}").values()) == [b"content"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/absolute/evil", "C:/evil", "..\\evil", "top/.."])
def test_paths_that_lead_out_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    refused(make(tmp_path / kind, FILES | {name: b"evil"}), "leads out of the folder")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = make(tmp_path / "a.tar", FILES)
    with tarfile.open(archive, "a") as tar:
        info = tarfile.TarInfo("top/link")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
        add(tar, "top/link/file", b"evil")
    refused(archive, "is a link or a device")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", FILES)
    with zipfile.ZipFile(archive, "a") as file:
        info = zipfile.ZipInfo("top/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    refused(archive, "is a link or a device")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", {"top/a": b"x"})
    content = bytearray(archive.read_bytes())
    content[content.rfind(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, "is encrypted")


def test_two_files_of_one_name(tmp_path: Path) -> None:
    for kind in ("a.zip", "a.tar"):
        archive = make(tmp_path / kind, FILES)
        if kind == "a.zip":
            with zipfile.ZipFile(archive, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
                file.writestr("top/empty", b"other")
        else:
            with tarfile.open(archive, "a") as tar:
                add(tar, "top/empty", b"other")
        refused(archive, "'top/empty' in it is there twice")
        archive.unlink()
    archive = make(tmp_path / "b.zip", FILES)
    with zipfile.ZipFile(archive, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("top/empty", b"")  # the same once more
    extract(archive, tmp_path / "equal")
    assert found(tmp_path / "equal") == FILES


def test_a_file_that_is_also_a_folder(tmp_path: Path) -> None:
    refused(make(tmp_path / "a.zip", FILES | {"top/a.bin/b": b""}), "both a file and a folder")


def test_more_than_the_disk_holds_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("top/a", b"x")
        file.filelist[0].file_size = 10**15
    with pytest.raises(OSError, match=r"unpacks to 1000000\.00 GB, and .* GB free: make room"):
        extract(tmp_path / "bomb.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()


def test_a_size_that_lies_is_damage(tmp_path: Path) -> None:
    """A megabyte of zeros that claims to be 5 bytes: no more than that is ever written."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("top/a", bytes(1_000_000))
        file.filelist[0].file_size = 5
    refused(tmp_path / "a.zip", "cut off or damaged")


@pytest.mark.parametrize("kind", KINDS)
def test_archives_that_are_cut_off(tmp_path: Path, kind: str) -> None:
    whole = make(tmp_path / kind, FILES).read_bytes()
    borders = [512 * k for k in range(1, 8)] if kind == "a.tar" else []
    last = len(whole.rstrip(b"\0")) if kind == "a.tar" else len(whole)  # a tar ends in zeros
    for size in (*borders, 100, 150_000, 300_000, last - 1):
        (tmp_path / kind).write_bytes(whole[:size])
        refused(tmp_path / kind, "cut off or damaged")


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_a_byte_that_changed(tmp_path: Path, kind: str) -> None:
    archive = make(tmp_path / kind, FILES)
    content = bytearray(archive.read_bytes())
    content[len(content) // 3] ^= 16
    archive.write_bytes(content)
    refused(archive, "cut off or damaged")


def test_a_tar_header_that_changed(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tar", FILES)
    content = bytearray(archive.read_bytes())
    content[content.index(b"top/sub/b.txt")] ^= 1
    archive.write_bytes(content)
    refused(archive, "its end is missing")


def test_what_is_no_archive(tmp_path: Path) -> None:
    for content, said in ((b"<!DOCTYPE html><p>Sign in", "is a web page"), (b"hello", "damaged"), (b"", "damaged")):
        (tmp_path / "a.zip").write_bytes(content)
        refused(tmp_path / "a.zip", said)
