"""Downloads from a server with the faults of real ones: how many bytes are asked for again, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from segmenter_pl.prepare import download as module
from segmenter_pl.prepare.download import download, is_page, shown
from tests.serving import LOGIN_PAGE, Site, serving

CONTENT = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(files={"/a.zip": CONTENT}, tags={"/a.zip": '"one"'}) as server:
        yield server


def fetch(site: Site, target: Path, name: str = "a.zip") -> bytes:
    with requests.Session() as session:
        download(f"{site.address}/{name}", target, session, "Get it by hand")
    assert {path.name for path in target.parent.iterdir()} == {target.name}
    return target.read_bytes()


def test_a_plain_download(site: Site, tmp_path: Path) -> None:
    assert fetch(site, tmp_path / "new" / "a.zip") == CONTENT
    assert site.sent == [len(CONTENT)]


def test_cut_connections_are_continued_where_they_stopped(site: Site, tmp_path: Path) -> None:
    site.cuts = [300_000, 0, 0, 0, 250_000, 10]
    assert fetch(site, tmp_path / "a.zip") == CONTENT
    assert sum(site.sent) == len(CONTENT)
    assert site.ranges_asked == [None, *["bytes=300000-"] * 4, "bytes=550000-", "bytes=550010-"]


def test_it_gives_up_after_tries_without_progress_and_the_next_call_goes_on(site: Site, tmp_path: Path) -> None:
    site.cuts = [400_000, *[0] * 5]
    with pytest.raises(OSError, match=r"a\.zip cannot be fetched .*IncompleteRead.* continues where it stopped"):
        fetch(site, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:400_000]
    assert len(site.requests) == module.TRIES
    site.cuts, site.sent = [], []
    assert fetch(site, tmp_path / "a.zip") == CONTENT
    assert site.sent == [600_000]


@pytest.mark.parametrize("heed", [True, False])
def test_a_file_that_changed_in_between_is_not_joined(site: Site, tmp_path: Path, heed: bool) -> None:
    """Also where the server gives the part of the new file in spite of If-Range."""
    site.cuts, site.heed = [400_000, *[0] * 5], heed
    with pytest.raises(OSError, match="continues"):
        fetch(site, tmp_path / "a.zip")
    site.cuts, site.files["/a.zip"], site.tags["/a.zip"] = [], OTHER, '"two"'
    assert fetch(site, tmp_path / "a.zip") == OTHER


def test_a_shorter_file_is_fetched_from_its_beginning(site: Site, tmp_path: Path) -> None:
    site.cuts, site.heed, site.tags = [400_000, *[0] * 5], False, {}
    with pytest.raises(OSError, match="continues"):
        fetch(site, tmp_path / "a.zip")
    site.cuts, site.files["/a.zip"] = [], OTHER[:1000]
    assert fetch(site, tmp_path / "a.zip") == OTHER[:1000]


def test_a_server_without_parts_is_read_from_the_start(site: Site, tmp_path: Path) -> None:
    site.cuts, site.ranges = [300_000], False
    assert fetch(site, tmp_path / "a.zip") == CONTENT
    assert site.sent == [300_000, len(CONTENT)]


@pytest.mark.parametrize("tag", ['W/"one"', None])
def test_without_a_strong_etag_parts_are_joined_where_length_and_tag_agree(
    site: Site, tmp_path: Path, tag: str | None
) -> None:
    site.cuts, site.tags = [300_000], {"/a.zip": tag} if tag else {}
    assert fetch(site, tmp_path / "a.zip") == CONTENT
    assert sum(site.sent) == len(CONTENT)


def test_another_weak_etag_is_another_file(site: Site, tmp_path: Path) -> None:
    site.cuts, site.tags = [300_000, *[0] * 5], {"/a.zip": 'W/"one"'}
    with pytest.raises(OSError, match="continues"):
        fetch(site, tmp_path / "a.zip")
    site.cuts, site.files["/a.zip"], site.tags["/a.zip"] = [], OTHER, 'W/"two"'
    assert fetch(site, tmp_path / "a.zip") == OTHER


def test_a_complete_part_needs_no_request(site: Site, tmp_path: Path) -> None:
    """Killed between the last byte and the renaming."""
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"validator": '"one"', "total": len(CONTENT)}))
    assert fetch(site, tmp_path / "a.zip") == CONTENT
    assert site.requests == []


def test_a_part_without_its_version_is_not_trusted(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(OTHER[:5000])
    (tmp_path / "a.zip.part.json").write_text("{cut o")
    assert fetch(site, tmp_path / "a.zip") == CONTENT


def test_a_server_that_is_busy_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 429, 500]
    assert fetch(site, tmp_path / "a.zip") == CONTENT


@pytest.mark.parametrize(("status", "why"), [(404, "no such file"), (403, "access is refused"), (401, "a login")])
def test_refusals_name_the_address_and_what_to_do(site: Site, tmp_path: Path, status: int, why: str) -> None:
    site.statuses = [status]
    with pytest.raises(OSError, match=rf"/a\.zip cannot be fetched: .*{why}.* \({status} .*Get it by hand"):
        fetch(site, tmp_path / "a.zip")
    assert len(site.requests) == 1


def test_a_web_page_instead_of_an_archive_costs_nothing_that_has_arrived(site: Site, tmp_path: Path) -> None:
    site.cuts = [400_000, *[0] * 5]
    with pytest.raises(OSError, match="continues"):
        fetch(site, tmp_path / "a.zip")
    site.cuts, site.ranges, site.files["/a.zip"] = [], False, b"\n" + LOGIN_PAGE
    with pytest.raises(ValueError, match=r"gives a web page instead of a\.zip: Get it by hand"):
        fetch(site, tmp_path / "a.zip")
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:400_000]


def test_no_server_and_no_address(tmp_path: Path) -> None:
    with serving() as gone:
        pass
    with pytest.raises(OSError, match=r"a\.zip cannot be fetched \(.*refused.*Get it by hand"):
        fetch(gone, tmp_path / "a.zip")
    with requests.Session() as session, pytest.raises(ValueError, match="is no address to fetch from"):
        download("ftp://example.org/a.zip", tmp_path / "a.zip", session, "Get it by hand")


def test_more_than_the_disk_has_room_for_is_refused_before_it_is_fetched(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 999_999

    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(OSError, match=r"0\.00 GB free and 0\.00 GB are to come: make room"):
        fetch(site, tmp_path / "a.zip")


def test_passwords_in_addresses_are_not_shown() -> None:
    assert shown("https://me:word@example.org/a?b=1") == "https://example.org/a?b=1"


def test_what_is_a_page() -> None:
    assert is_page(b"\xef\xbb\xbf \r\n<!DOCTYPE HTML PUBLIC")
    assert is_page(b"<html lang=en>")
    assert not is_page(b"PK\3\4<html>")
    assert not is_page(b"")
