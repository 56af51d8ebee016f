"""Who is answered, what is taken in, and that no request leads to a file or to another machine."""

import io
import re
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from PIL import Image

from segmenter_pl.explore.collection import UPLOADS
from segmenter_pl.explore.looker import Looker
from segmenter_pl.explore.uploading import LIMIT, name_of
from tests.exploring import get, looker, put, raw, samples, sentence, serving
from tests.test_predictor import blocks, damaged_files, save_checkpoint

PAGE = resources.files("segmenter_pl.explore.page")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explore")


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    with serving([looker(save_checkpoint(folder / "best.ckpt"))], samples(folder / "pictures")) as address:
        yield address


def png(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


def test_it_listens_on_this_machine_only(site: str) -> None:
    port = int(site.rstrip("/").rpartition(":")[2])
    listening = [one.laddr for one in psutil.Process().net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert [laddr.ip for laddr in listening if laddr.port == port] == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "192.168.0.7", "[::1]"])
def test_other_names_of_this_machine_are_not_answered(site: str, host: str) -> None:
    """A site may let its own name lead to 127.0.0.1, and would then read the answers as its own."""
    for path in ("/", "/about", "/pictures/0/labels"):
        assert raw(site, "GET", path, {"Host": host}).status == 403
    port = site.rstrip("/").rpartition(":")[2]
    for name in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST"):  # also through a tunnel to another port
        assert raw(site, "GET", "/about", {"Host": name}).status == 200


def test_requests_of_other_sites_are_not_answered(site: str) -> None:
    before = get(f"{site}pictures").json()
    for origin in ("http://evil.example", "null", site.rstrip("/").replace("http:", "https:"), "http://127.0.0.1:1"):
        response = requests.put(f"{site}pictures?name=a.png", png(blocks()), headers={"Origin": origin}, timeout=60)
        assert sentence(response, 403) == "requests of other sites are not answered"
    for where in ("cross-site", "same-site"):  # a picture in another page, which could be seen by its size
        response = requests.get(f"{site}pictures/0/picture", headers={"Sec-Fetch-Site": where}, timeout=60)
        assert sentence(response, 403)
        assert requests.get(site, headers={"Sec-Fetch-Site": where}, timeout=60).status_code == 200  # a link
    assert get(f"{site}pictures").json() == before
    response = requests.options(f"{site}pictures", headers={"Origin": "http://evil.example"}, timeout=60)
    assert not {name for name in response.headers if name.lower().startswith("access-control")}


def test_the_page_names_nothing_that_is_elsewhere(site: str) -> None:
    """Every file that the page names is one of its own, and every answer forbids all others."""
    policy = get(site).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    names = {file.name for file in PAGE.iterdir() if file.name.endswith((".html", ".css", ".js", ".svg"))}
    for name in names:
        text = get(f"{site}page/{name}").text
        assert text == (PAGE / name).read_text(encoding="utf-8")
        assert set(re.findall(r"\w+://[\w.]+", text)) <= {"http://www.w3.org"}, name  # the name of SVG
        assert "@import" not in text
        assert "url(" not in text
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:src|href)="/page/([^"]+)"', page))
    for script in names:
        if script.endswith(".js"):
            named |= set(re.findall(r'from "\./([^"]+)"', (PAGE / script).read_text(encoding="utf-8")))
    assert named == names - {"index.html"}
    assert not re.findall(r"\son\w+=|style=|<style|<script>", page)  # which the policy forbids


@pytest.mark.parametrize(
    "path",
    [
        "/page/__init__.py", "/page/../application.py", "/page/%2e%2e/application.py", "/page//etc/passwd",
        "/page/..%2f..%2fcheckpoint.py", "/pictures/..%2f..%2fbest.ckpt/picture", "/pictures/first.png/picture",
        "/pictures/-1/picture", "/pictures/4/picture", "/pictures/999999999999999999999/picture", "/best.ckpt",
        "/pictures/0/../../best.ckpt",
    ],
)  # fmt: skip
def test_no_address_leads_to_a_file(site: str, path: str) -> None:
    assert raw(site, "GET", path, {}).status == 404


@pytest.mark.parametrize("query", ["x=-1&y=0", "x=1", "x=a&y=0", "x=1&y=0&frame=1e9", "x=1&y=0&model=9999999999"])
def test_numbers_that_are_none(site: str, query: str) -> None:
    assert "give a whole number from 0" in sentence(
        requests.get(f"{site}pictures/0/probabilities?{query}", timeout=60), 400
    )
    assert sentence(requests.get(f"{site}pictures/0/labels?model=1", timeout=60), 404)


def test_a_large_upload_is_refused_before_a_byte_of_it_is_read(site: str) -> None:
    start = time.monotonic()
    response = raw(site, "PUT", "/pictures?name=huge.png", {"Content-Length": str(50_000_000)})
    assert response.status == 413
    assert time.monotonic() - start < 20  # no byte was sent, and none was waited for
    told = sentence(put(site, "huge.png", bytes(50_000_000)), 413)
    assert told.startswith("huge.png has 50 MB or more, and 20 MB are the limit")
    assert put(site, "a.png", png(blocks()).ljust(LIMIT, b"\0")).status_code == 201


def test_an_upload_that_hides_its_size_is_cut_off(site: str) -> None:
    """In pieces without a length, as no page sends it."""
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(2000):
            taken += 1
            yield bytes(2**20)

    with suppress(requests.ConnectionError):  # it may be cut off while it still sends
        assert put(site, "huge.png", pieces()).status_code == 413
    assert taken < 200
    assert get(f"{site}about")


def test_what_is_no_picture_is_refused_with_a_sentence(site: str, tmp_path: Path) -> None:
    before = get(f"{site}pictures").json()
    for name, words in damaged_files(tmp_path).items():
        told = sentence(put(site, name, (tmp_path / name).read_bytes()), 400)
        assert told.startswith(f"{name} ")
        assert words in told
        assert str(tmp_path) not in told
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    assert "is a EPS file" in sentence(put(site, "a.eps", postscript), 400)  # Pillow would start Ghostscript
    assert get(f"{site}pictures").json() == before


def test_a_picture_that_claims_a_huge_size_is_refused(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    header = png(blocks())
    bomb = header[:16] + struct.pack(">II", 60_000, 60_000) + header[24:]
    assert sentence(put(site, "bomb.png", bomb), 400).startswith("bomb.png ")
    monkeypatch.setenv("SEGMENTER_MAX_MEGAPIXELS", "0.003")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    told = sentence(put(site, "a.png", header), 400)
    assert "a.png has 0.00315 megapixels, and 0.003 are the limit" in told


def test_uploads_are_few_and_stay_in_memory(site: str, folder: Path) -> None:
    before = set(folder.rglob("*"))
    numbers = [put(site, f"{i}.png", png(blocks(seed=i))).json()["id"] for i in range(UPLOADS + 2)]
    assert len(set(numbers)) == len(numbers)
    listed = [item for item in get(f"{site}pictures").json() if item["upload"]]
    assert [item["id"] for item in listed] == numbers[2:]
    told = sentence(requests.get(f"{site}pictures/{numbers[0]}/labels", timeout=60), 404)
    assert "choose one from the list, or drop it again" in told
    assert set(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("photo.jpg", "photo.jpg"), ("../../etc/passwd", "passwd"), ("C:\\pictures\\a.png", "a.png"), ("", "picture"),
        ("a\nb\x1b[2J.png", "ab[2J.png"), ("x" * 500 + ".png", "x" * 116 + ".png"),
    ],
)  # fmt: skip
def test_names_of_uploads_are_for_show(given: str, shown: str) -> None:
    assert name_of(given) == shown


def test_a_fault_of_ours_ends_one_answer_and_not_the_server(
    site: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*words: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Looker, "probabilities", broken)
    assert requests.get(f"{site}pictures/0/probabilities?x=1&y=1", timeout=60).status_code == 500
    assert get(f"{site}about")
    assert "a fault of ours" in caplog.text  # with its trace, which without pytest's handler goes to stderr
