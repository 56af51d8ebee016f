"""`segmenter prepare cityscapes`: two zips, from files, a mirror, or the site with the user's own login."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from segmenter_pl.data.cityscapes import CityscapesDataModule
from segmenter_pl.prepare import cityscapes, download
from tests import layouts
from tests.packing import prepare, tree_of, zipped
from tests.serving import Site, serving

PICTURES, LABELS = "leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"
BOTH = {"README": b"read me", "license.txt": b"licence"}
WORD = "s3cret & w%rd"


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tree = tmp_path_factory.mktemp("archives"), tmp_path_factory.mktemp("tree")
    layouts.cityscapes(tree)
    zipped(folder / PICTURES, tree, "leftImg8bit", more=BOTH)
    zipped(folder / LABELS, tree, "gtFine", more=BOTH)
    return folder


@pytest.fixture
def site(archives: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    names = {PICTURES: 3, LABELS: 1}
    content = {name: (archives / name).read_bytes() for name in names}
    files = {f"/file-handling/?packageID={k}": content[name] for name, k in names.items()}
    with serving(files=files | {f"/{name}": content[name] for name in names}) as server:
        monkeypatch.setattr(cityscapes, "SITE", server.address)
        yield server


def login(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("CITYSCAPES_USERNAME", "somebody")
    monkeypatch.setenv("CITYSCAPES_PASSWORD", password)


def assert_right(root: Path, truth: layouts.Truth) -> None:
    data = CityscapesDataModule(root, batch_size=1, crop=32)
    for split, masks in truth.items():
        with pytest.warns(UserWarning, match="published are"):
            dataset = data.dataset(split)
        for k, (name, mask) in enumerate(sorted(masks.items())):
            assert dataset.pictures[k].as_posix().endswith(f"{name}.png")
            np.testing.assert_array_equal(dataset.read(k)[1], mask)
    assert len(data.files("test").pictures) == 1


def assert_nowhere(word: str, root: Path, *texts: str) -> None:
    contents = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    for form in (word, word.replace("%", "%25"), "s3cret"):
        assert not any(form in text for text in texts)
        assert not any(form.encode() in content for content in contents)


@pytest.mark.parametrize("way", ["folder", "files", "mirror"])
def test_from_archives(archives: Path, site: Site, tmp_path: Path, way: str) -> None:
    sources = {"folder": [archives], "files": [archives / LABELS, archives / PICTURES], "mirror": [site.address + "/"]}
    words = [word for source in sources[way] for word in ("--source", source)]
    root = tmp_path / "cs"
    code, said, _ = prepare("cityscapes", "--root", root, *words)
    assert code == 0
    assert "licence" in said
    assert f"cityscapes is in {root}: 2 train, 1 val, 1 test pictures" in said
    assert_right(root, layouts.cityscapes(tmp_path / "truth"))
    assert (root / "README").read_text() == "read me"
    assert {*json.loads((root / ".prepared.json").read_text())["cityscapes"]["archives"]} == {PICTURES, LABELS}
    assert "POST /login/" not in site.requests
    before = tree_of(root)
    assert prepare("cityscapes", "--root", root)[0] == 0
    assert tree_of(root) == before


def test_with_the_users_login(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.password, site.cuts = WORD, [500]
    login(monkeypatch, WORD)
    caplog.set_level("DEBUG")
    recipe = cityscapes.recipe()
    assert [archive.url for archive in recipe.archives] == [
        f"{site.address}/file-handling/?packageID={k}" for k in (3, 1)
    ]
    code, said, told = prepare("cityscapes", "--root", tmp_path / "cs")
    assert code == 0, told
    assert site.requests[:2] == ["/login/", "POST /login/"]
    assert_right(tmp_path / "cs", layouts.cityscapes(tmp_path / "truth"))
    assert_nowhere(WORD, tmp_path, said, told, caplog.text)


def test_a_login_that_is_refused(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.password = "another"
    login(monkeypatch, WORD)
    code, said, told = prepare("cityscapes", "--root", tmp_path / "cs")
    assert code == 1
    assert "refused the login: check CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD. By hand:" in told
    assert_nowhere(WORD, tmp_path, said, told)
    assert not (tmp_path / "cs").exists()


def test_a_login_that_leads_elsewhere_is_not_followed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login(monkeypatch, WORD)
    with serving(password=WORD) as other:
        site.moved = f"{other.address}/login/"
        code, said, told = prepare("cityscapes", "--root", tmp_path / "cs")
        assert other.requests == []
    assert code == 1
    assert "leads the login elsewhere" in told
    assert_nowhere(WORD, tmp_path, said, told)


def test_a_login_that_is_forgotten_on_the_way(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The site answers downloads with its login page and status 200."""
    site.password = WORD
    login(monkeypatch, WORD)
    session = cityscapes.login()
    session.cookies.clear()
    monkeypatch.setattr(cityscapes, "login", lambda: session)
    code, said, told = prepare("cityscapes", "--root", tmp_path / "cs")
    assert code == 1
    assert f"gives a web page instead of {PICTURES}: By hand" in told
    assert_nowhere(WORD, tmp_path, said, told)


@pytest.mark.parametrize("status", [500, None])
def test_a_site_that_does_not_answer(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    login(monkeypatch, WORD)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # with the whole trace
    site.statuses = [500]
    if status is None:
        with serving() as gone:
            pass
        monkeypatch.setattr(cityscapes, "SITE", gone.address)
    else:
        site.files, site.password = {}, WORD
        site.statuses = [200, *[500] * 5]
    with pytest.raises(OSError) as caught:  # noqa: PT011
        prepare("cityscapes", "--root", tmp_path / "cs")
    assert_nowhere(WORD, tmp_path, str(caught.getrepr(showlocals=False)), str(caught.value))


def test_without_archives_and_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CITYSCAPES_PASSWORD", raising=False)
    monkeypatch.setenv("CITYSCAPES_USERNAME", "somebody")
    code, _, told = prepare("cityscapes", "--root", tmp_path / "cs")
    assert code == 1
    assert "give both with --source FOLDER; or set CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD" in told
    assert not (tmp_path / "cs").exists()


def test_one_archive_alone_is_not_enough(archives: Path, tmp_path: Path) -> None:
    code, _, told = prepare("cityscapes", "--root", tmp_path / "cs", "--source", archives / LABELS)
    assert code == 1
    assert f"{PICTURES} is in none of --source {archives / LABELS}: add --source FILE for it. By hand" in told


def user_copy(root: Path, train: int) -> None:
    """Files without content: nothing reads them."""
    for split, count in (("train", train), ("val", 500), ("test", 1525)):
        for part, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            (root / part / split / "city").mkdir(parents=True)
            for number in range(count):
                (root / part / split / "city" / f"{number}_{ending}.png").touch()


def test_a_complete_copy_of_the_users_own_is_accepted_as_it_is(tmp_path: Path) -> None:
    user_copy(tmp_path, 2975)
    code, said, told = prepare("cityscapes", "--root", tmp_path)
    assert (code, told) == (0, "")
    assert said.startswith(f"cityscapes is in {tmp_path}: 2975 train, 500 val, 1525 test pictures\n")
    record = json.loads((tmp_path / ".prepared.json").read_text())
    assert record == {"cityscapes": {"counts": {"train": 2975, "val": 500, "test": 1525}, "archives": {}}}
    assert {path.name for path in tmp_path.iterdir()} == {".prepared.json", "leftImg8bit", "gtFine"}
    assert "nothing to do" in prepare("cityscapes", "--root", tmp_path)[1]
