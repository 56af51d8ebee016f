"""Downloads over HTTP that go on where they stopped, and never join the parts of two different files."""

import json
import re
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3

from segmenter_pl.files import fresh
from segmenter_pl.prepare.progress import progress

TRIES = 5
PAUSE = 1.0  # seconds before the second try; doubled each time
TIMEOUT = (15, 60)  # seconds without a connection, and without a byte
CHUNK = 1 << 18
LATER = (408, 425, 429, 500, 502, 503, 504)  # status codes that pass
CHANGED = "the file there is another one now; it is fetched from its beginning"


class _Cut(Exception):
    """The connection ended early, or the server asks to come again."""


@dataclass(frozen=True)
class _Version:
    """What tells one file at an address from its successor: its ETag or date, and its length in bytes."""

    validator: str | None = None
    total: int | None = None


def download(url: str, target: Path, session: requests.Session, advice: str, tries: int = TRIES) -> None:
    """Fetch `url` to `target`, which is there only when it is complete.

    What has arrived is in `target`.part, with the file's version beside it: the next try, or the next process, asks
    for the rest of that version. A server that does not give parts, or has another version, is read from the start.

    Args:
        session: carries cookies, where a login is needed.
        advice: what to do where the address does not give the file, for messages.
        tries: in a row without a single new byte, before it gives up.

    Raises: OSError (also without network or room on the disk) and ValueError, each with a sentence for the user.
    """
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(part)
        try:
            _fetch(url, part, session, advice, target.name)
            break
        except (_Cut, requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= tries:
                raise OSError(
                    f"{shown(url)} cannot be fetched ({_reason(error)}). The same command continues where it stopped; "
                    f"{advice}"
                ) from error
            wait = PAUSE * 2 ** (failures - 1)
            print(f"{target.name}: {_reason(error)}; trying again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)
        except requests.RequestException as error:
            raise ValueError(f"{shown(url)} is no address to fetch from ({_reason(error)}): {advice}") from error
    part.replace(target)
    _facts(part).unlink(missing_ok=True)


def shown(url: str) -> str:
    """The address without user name and password."""
    split = urlsplit(url)
    return urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2]))


def is_page(head: bytes) -> bool:
    """Whether a file that begins so is a web page."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--"))


def _fetch(url: str, part: Path, session: requests.Session, advice: str, name: str) -> None:
    """One request, for all that is missing."""
    known = _read_version(part)
    have = _size(part) if known else 0
    if known and have and have == known.total:
        return
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    if known and have and known.validator and not known.validator.startswith("W/"):  # a weak ETag serves no If-Range
        headers["If-Range"] = known.validator
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:
            part.unlink(missing_ok=True)
            raise _Cut(CHANGED)
        _refuse(response, url, advice)
        version, start = _version(response)
        if start and (start != have or not _same(known, version)):
            part.unlink()
            raise _Cut(CHANGED)
        chunks = response.raw.stream(CHUNK, decode_content=False)
        first = next(chunks, b"")
        if not start and is_page(first):
            raise ValueError(f"{shown(url)} gives a web page instead of {name}: {advice}")
        _need_room(part, version.total, start)
        try:
            with part.open("ab" if start else "wb") as file, progress(name, version.total, done=start) as advance:
                if not start:  # the old version's name goes after its bytes
                    _write_version(part, version)
                while first:
                    file.write(first)
                    advance(len(first))
                    first = next(chunks, b"")
        except OSError as error:
            raise _no_room(part, error) from error
    if version.total is not None and _size(part) != version.total:
        raise _Cut(f"{_size(part)} of {version.total} bytes came")


def _refuse(response: requests.Response, url: str, advice: str) -> None:
    status = response.status_code
    if status in LATER:
        raise _Cut(f"the server answers {status} {response.reason}")
    if status >= 400:
        why = {401: "a login is needed", 403: "access is refused", 404: "there is no such file"}.get(status, "refused")
        raise OSError(f"{shown(url)} cannot be fetched: {why} ({status} {response.reason}). {advice}")


def _version(response: requests.Response) -> tuple[_Version, int]:
    """The version that a response has, and the first byte that it brings."""
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
    if response.status_code == 206:
        match = re.match(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if not match:
            raise OSError(f"{shown(response.url)} answers with a part, but does not say which: use another mirror")
        return _Version(validator, int(match[2])), int(match[1])
    length = response.headers.get("Content-Length", "")
    return _Version(validator, int(length) if length.isdecimal() else None), 0


def _same(known: _Version | None, now: _Version) -> bool:
    """Whether bytes of both versions may be joined; a part need not name its version again."""
    if known is None or known.total not in (None, now.total):
        return False
    return now.validator in (None, known.validator)


def _need_room(part: Path, total: int | None, start: int) -> None:
    free = shutil.disk_usage(part.parent).free + (0 if start else _size(part))
    if total is not None and total - start > free:
        raise OSError(
            f"{part.parent} has {free / 1e9:.2f} GB free and {total / 1e9:.2f} GB are to come: make room, or choose "
            "another --root; the same command continues where it stopped"
        )


def _no_room(part: Path, error: OSError) -> OSError:
    return OSError(
        f"{part} cannot be written ({error.strerror or error}): make room, then the same command continues where it "
        "stopped"
    )


def _facts(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_version(part: Path) -> _Version | None:
    try:
        return _Version(**json.loads(_facts(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write_version(part: Path, version: _Version) -> None:
    with fresh(_facts(part)) as temporary:
        temporary.write_text(json.dumps(asdict(version)))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: BaseException) -> str:
    """The innermost cause: requests and urllib3 wrap it in several layers that repeat the address."""
    while isinstance(below := getattr(error, "reason", None) or (error.args or (None,))[-1], BaseException):
        error = below
    return re.sub(r"^(<.*?>|\w+\(.*?\)): ", "", str(getattr(error, "strerror", None) or error))
