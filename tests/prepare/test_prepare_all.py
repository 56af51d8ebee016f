"""What holds for `segmenter prepare` of every dataset, from a server with the faults of real ones."""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from segmenter_pl.prepare import download
from tests.packing import ARCHIVES, prepare, tree_of
from tests.serving import Site, serving

CHECKED = ("ade20k", "pascal_context")  # checksums are published


@pytest.fixture(params=ARCHIVES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    archives = ARCHIVES[name](tmp_path / "made")
    with serving(files={f"/{path.name}": path.read_bytes() for path in archives}) as server:
        yield server


def words(name: str, root: Path, site: Site) -> tuple[object, ...]:
    return (name, "--root", root, "--source", site.address, "--unverified")


def test_cut_connections_and_a_second_run(name: str, site: Site, tmp_path: Path) -> None:
    root = tmp_path / "my data" / name
    site.cuts = [300, 0, 500]
    code, said, told = prepare(*words(name, root, site))
    assert code == 0, told
    assert sum(site.sent) == sum(map(len, site.files.values()))  # no byte twice
    assert f"{name} is in {root}: " in said
    before, requests = tree_of(root), len(site.requests)
    code, said, told = prepare(*words(name, root, site))
    assert (code, told) == (0, "")
    assert said.endswith("nothing to do\n")
    assert (tree_of(root), len(site.requests)) == (before, requests)


def test_a_checksum_that_is_known_is_asked_for(name: str, site: Site, tmp_path: Path) -> None:
    root = tmp_path / name
    code, _, told = prepare(*words(name, root, site)[:-1])
    if name in CHECKED:
        assert code == 1
        assert "its checksum is sha1:" in told
        assert not [path for path in root.iterdir() if path.name != ".preparing"]
    else:
        assert code == 0, told


def test_an_archive_cut_for_good_is_not_taken_for_complete(name: str, site: Site, tmp_path: Path) -> None:
    root, whole = tmp_path / name, dict(site.files)
    last = sorted(whole)[-1]
    site.files[last] = whole[last][: len(whole[last]) * 2 // 3]
    code, _, told = prepare(*words(name, root, site))
    assert code == 1
    assert "cut off or damaged" in told
    assert not [path for path in root.iterdir() if path.name != ".preparing"]
    site.files = whole
    assert prepare(*words(name, root, site))[0] == 0


def test_a_member_that_leads_out_is_refused(name: str, site: Site, tmp_path: Path) -> None:
    address = next(path for path in site.files if path.endswith((".zip", ".tar")))
    path = tmp_path / f"evil{Path(address).suffix}"
    path.write_bytes(site.files[address])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("../../outside.txt", b"boo")
    else:
        with tarfile.open(path, "a") as tar:
            member = tarfile.TarInfo("../../outside.txt")
            member.size = 3
            tar.addfile(member, io.BytesIO(b"boo"))
    site.files[address] = path.read_bytes()
    root = tmp_path / "a" / "b" / name
    code, _, told = prepare(*words(name, root, site))
    assert code == 1
    assert "leads out of the folder" in told
    assert not list(tmp_path.rglob("outside.txt"))
    assert not [path for path in root.iterdir() if path.name != ".preparing"]
