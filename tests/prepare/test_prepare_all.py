"""What holds for `segmenter prepare` of every dataset, from a server with the faults of real ones."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from segmenter_pl.prepare import download
from tests import layouts
from tests.packing import pascal_archives, prepare, tree_of, zipped
from tests.serving import Site, serving


def ade20k(folder: Path) -> None:
    layouts.ade20k(folder / "tree")
    zipped(folder / "archives/ADEChallengeData2016.zip", folder / "tree", "ADEChallengeData2016")


def pascal_context(folder: Path) -> None:
    rng, tree, sizes = np.random.default_rng(0), folder / "tree", (24, 32)
    splits = {"train": ["2008_000002", "2008_000007"], "val": ["2008_000003"]}
    for name in (*splits["train"], *splits["val"]):
        layouts.save(tree / "VOCdevkit/VOC2010/JPEGImages" / f"{name}.jpg", layouts.picture(rng, sizes))
    ids = {s: {n: rng.integers(0, 460, sizes).astype(np.uint16) for n in names} for s, names in splits.items()}
    pascal_archives(folder / "archives", tree, ids)


def cityscapes(folder: Path) -> None:
    layouts.cityscapes(folder / "tree")
    for part in ("leftImg8bit", "gtFine"):
        zipped(folder / "archives" / f"{part}_trainvaltest.zip", folder / "tree", part)


def rgbt_glass(folder: Path) -> None:
    layouts.rgbt_glass(folder / "tree")
    zipped(folder / "archives/RGB-T-glass.zip", folder / "tree", "train", "test")


MAKERS: dict[str, Callable[[Path], None]] = {
    "ade20k": ade20k,
    "pascal_context": pascal_context,
    "cityscapes": cityscapes,
    "rgbt_glass": rgbt_glass,
}
CHECKED = ("ade20k", "pascal_context")  # checksums are published


@pytest.fixture(params=MAKERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    MAKERS[name](tmp_path / "made")
    archives = [path for path in (tmp_path / "made/archives").iterdir() if path.is_file()]
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


@pytest.mark.parametrize("name", ["ade20k", "cityscapes", "rgbt_glass"], indirect=True)  # tars: test_archives
def test_a_member_that_leads_out_is_refused(name: str, site: Site, tmp_path: Path) -> None:
    zips = [path for path in site.files if path.endswith(".zip")]
    path = tmp_path / "evil.zip"
    path.write_bytes(site.files[zips[0]])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside.txt", b"boo")
    site.files[zips[0]] = path.read_bytes()
    root = tmp_path / "a" / "b" / name
    code, _, told = prepare(*words(name, root, site))
    assert code == 1
    assert "leads out of the folder" in told
    assert not list(tmp_path.rglob("outside.txt"))
    assert not [path for path in root.iterdir() if path.name != ".preparing"]
