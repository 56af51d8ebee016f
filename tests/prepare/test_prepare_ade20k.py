"""`segmenter prepare ade20k` from a server and from files, and all that does not depend on the dataset."""

import dataclasses
import fcntl
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from segmenter_pl.commands.prepare import _override
from segmenter_pl.data.ade20k import ADE20KDataModule
from segmenter_pl.prepare import ade20k, download
from segmenter_pl.prepare.recipe import merge
from segmenter_pl.prepare.steps import Options
from segmenter_pl.prepare.steps import prepare as follow
from tests import layouts
from tests.packing import prepare, tree_of, zipped
from tests.serving import Site, serving

NAME, TEST = "ADEChallengeData2016.zip", "release_test.zip"
FILLER = {"ADEChallengeData2016/objectInfo150.txt": np.random.default_rng(0).bytes(1_500_000)}
UNWANTED = {"__MACOSX/ADEChallengeData2016/._images": b"x", "ADEChallengeData2016/.DS_Store": b"x"}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> layouts.Truth:
    return layouts.ade20k(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree, folder = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("archives")
    layouts.ade20k(tree)
    zipped(folder / NAME, tree, "ADEChallengeData2016", more=FILLER | UNWANTED)
    zipped(folder / TEST, tree, "release_test", more={"release_test/list.txt": b"list"})
    return folder


@pytest.fixture
def site(archives: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    files = {f"/{name}": (archives / name).read_bytes() for name in (NAME, TEST)}
    with serving(files=files, tags={f"/{NAME}": '"one"', f"/{TEST}": '"two"'}) as server:
        yield server


def assert_right(root: Path, truth: layouts.Truth) -> None:
    data = ADE20KDataModule(root, batch_size=1, crop=32)
    for split, masks in truth.items():
        with pytest.warns(UserWarning, match="published are"):
            dataset = data.dataset(split)
        assert [dataset.name(k) for k in range(len(dataset))] == sorted(masks)
        for k in range(len(dataset)):
            np.testing.assert_array_equal(dataset.read(k)[1], masks[dataset.name(k)])


def test_from_a_server_that_cuts_and_then_again_at_no_cost(site: Site, tmp_path: Path, truth: layouts.Truth) -> None:
    root, content = tmp_path / "data" / "ade", site.files[f"/{NAME}"]
    site.cuts = [500_000, 0, 700_000]
    words = ("ade20k", "--root", root, "--source", site.address, "--unverified")
    code, said, told = prepare(*words)
    assert code == 0
    assert sum(site.sent) == len(content)
    first, *_, counts, train = said.splitlines()
    assert "non-commercial research" in first
    assert counts == f"ade20k is in {root}: 4 train, 2 val pictures"
    assert train == f"Train with it: python train.py dataset=ade20k dataset.root={root}"
    assert "Warning: ade20k, train: 4 pictures, published are 20210 (-20206): results will not be comparable" in told
    assert_right(root, truth)
    assert sorted(path.name for path in root.iterdir()) == [".prepared.json", "ADEChallengeData2016"]
    assert not list(root.rglob(".DS_Store"))
    sha1 = hashlib.sha1(content).hexdigest()
    assert json.loads((root / ".prepared.json").read_text()) == {
        "ade20k": {
            "counts": {"train": 4, "val": 2},
            "archives": {NAME: {"checksum": f"sha1:{sha1}", "size": len(content)}},
        }
    }
    before, requests = tree_of(root), len(site.requests)
    assert prepare(*words) == (0, f"{root} holds ade20k: 4 train, 2 val pictures; nothing to do\n", "")
    assert (tree_of(root), len(site.requests)) == (before, requests)
    # The test pictures come later, without the rest.
    code, said, _ = prepare(*words, "--test")
    assert code == 0
    assert site.requests[requests:] == [f"/{TEST}"]
    assert "ade20k_test is in" in said
    assert {*json.loads((root / ".prepared.json").read_text())} == {"ade20k", "ade20k_test"}
    assert len(ADE20KDataModule(root, batch_size=1, crop=32).dataset("test")) == 1
    assert {name: digest for name, digest in tree_of(root).items() if name in before} | {".prepared.json": ""} == (
        before | {".prepared.json": ""}
    )


@pytest.mark.parametrize("kind", ["folder", "file", "file of another name"])
def test_from_files_which_are_left_where_they_are(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: layouts.Truth, kind: str
) -> None:
    monkeypatch.setenv("SEGMENTER_DATA", str(tmp_path / "data"))
    source = archives if kind == "folder" else archives / NAME
    if kind == "file of another name":
        source = tmp_path / "download (1).zip"
        source.write_bytes((archives / NAME).read_bytes())
    before = tree_of(archives)
    code, said, _ = prepare("ade20k", "--source", source, "--unverified")
    assert code == 0
    assert said.endswith("Train with it: python train.py dataset=ade20k\n")
    assert_right(tmp_path / "data" / "ade20k", truth)
    assert tree_of(archives) == before
    assert source.exists()


def test_the_official_checksum_is_asked_for_and_a_right_one_is_enough(archives: Path, tmp_path: Path) -> None:
    code, _, told = prepare("ade20k", "--root", tmp_path / "ade", "--source", archives)
    digest = hashlib.sha1((archives / NAME).read_bytes()).hexdigest()
    assert code == 1
    assert f"its checksum is sha1:{digest}, expected is sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7" in told
    assert f"--source {archives / NAME} --unverified" in told
    recipe = ade20k.recipe()
    right = dataclasses.replace(recipe.archives[0], checksum=f"sha1:{digest}")
    assert follow(dataclasses.replace(recipe, archives=(right,)), tmp_path / "ade", Options([str(archives)]))


def test_a_wrong_download_is_moved_aside_and_may_be_trusted(site: Site, tmp_path: Path, truth: layouts.Truth) -> None:
    root = tmp_path / "ade"
    for tries in (1, 2):  # the second one fetches afresh
        code, _, told = prepare("ade20k", "--root", root, "--source", site.address)
        assert code == 1
        assert len(site.requests) == tries
    assert not (root / "ADEChallengeData2016").exists()
    words = shlex.split(told[told.index("--source ") :].splitlines()[0])
    assert prepare("ade20k", "--root", root, *words)[0] == 0
    assert len(site.requests) == 2
    assert_right(root, truth)


def test_a_damaged_or_dangerous_download_is_out_of_the_way_of_the_next_try(site: Site, tmp_path: Path) -> None:
    root, content = tmp_path / "ade", site.files[f"/{NAME}"]
    words = ("ade20k", "--root", root, "--source", site.address, "--unverified")
    evil = zipped(tmp_path / "evil.zip", tmp_path, more={"../../evil": b"evil"}).read_bytes()
    for bad, why in ((content[:-500], "cut off or damaged"), (evil, "leads out of the folder")):
        site.files[f"/{NAME}"] = bad
        code, _, told = prepare(*words)
        assert code == 1
        assert why in told
    assert not list(tmp_path.rglob("evil"))
    assert sorted(path.name for path in root.iterdir()) == [".preparing"]
    site.files[f"/{NAME}"] = content
    assert prepare(*words)[0] == 0
    assert not (root / ".preparing").exists()


def test_archives_are_kept_on_demand(site: Site, tmp_path: Path) -> None:
    root = tmp_path / "ade"
    words = ("ade20k", "--root", root, "--source", site.address, "--unverified", "--keep-archives")
    assert prepare(*words)[0] == prepare(*words)[0] == 0
    kept = root / ".preparing" / "ade20k" / "downloads" / NAME
    assert kept.read_bytes() == site.files[f"/{NAME}"]
    assert prepare("ade20k", "--root", tmp_path / "two", "--source", kept, "--unverified")[0] == 0


def test_files_that_went_missing_are_told(archives: Path, tmp_path: Path) -> None:
    root = tmp_path / "ade"
    words = ("ade20k", "--root", root, "--source", archives, "--unverified")
    assert prepare(*words)[0] == 0
    home = root / "ADEChallengeData2016"
    (home / "annotations/training/ADE_train_00000003.png").unlink()
    code, _, told = prepare(*words)
    assert code == 1
    assert "has changed since it was prepared: 1 files without a label, the first is" in told
    (home / "images/training/ADE_train_00000003.jpg").unlink()
    code, _, told = prepare(*words)
    assert code == 1
    assert (
        "it holds 3 train, 2 val pictures, it held 4 train, 2 val pictures. Put back what is missing; or move" in told
    )


def test_an_archive_that_lacks_files_is_not_taken_for_complete(archives: Path, tmp_path: Path) -> None:
    layouts.ade20k(tmp_path / "tree")
    (tmp_path / "tree/ADEChallengeData2016/annotations/validation/ADE_val_00000001.png").unlink()
    lacking = zipped(tmp_path / NAME, tmp_path / "tree", "ADEChallengeData2016")
    root = tmp_path / "ade"
    code, _, told = prepare("ade20k", "--root", root, "--source", lacking, "--unverified")
    assert code == 1
    assert "1 files without a label, the first is" in told
    assert f"remove {root / '.preparing' / 'ade20k'} first" in told
    assert [path.name for path in root.iterdir()] == [".preparing"]


def test_a_source_that_has_it_not(archives: Path, tmp_path: Path) -> None:
    root, empty = tmp_path / "ade", tmp_path / "empty"
    empty.mkdir()
    code, _, told = prepare("ade20k", "--root", root, "--source", empty)
    assert code == 1
    assert f"{NAME} is in none of --source {empty}: add --source FILE for it, or --source {ade20k.SITE}" in told
    code, _, told = prepare("ade20k", "--root", root, "--source", tmp_path / "nowhere")
    assert code == 1
    assert "nowhere does not exist" in told
    assert not root.exists()


def user_copy(root: Path, train: int, val: int) -> None:
    """A copy without record; contents do not matter, as nothing reads them."""
    for part, count in (("training", train), ("validation", val)):
        for folder, suffix in (("images", "jpg"), ("annotations", "png")):
            (root / folder / part).mkdir(parents=True)
            for number in range(count):
                (root / folder / part / f"{number}.{suffix}").touch()


@pytest.mark.parametrize("fault", ["fewer", "alone", "empty", "link"])
def test_another_copy_of_the_users_own_is_never_touched(site: Site, tmp_path: Path, fault: str) -> None:
    root = tmp_path / "ade"
    user_copy(root, 0 if fault in ("empty", "link") else 3, 2)
    if fault == "alone":
        (root / "images/training/1.jpg").unlink()
    if fault == "link":
        root = tmp_path / "other"
        root.mkdir()
        (root / "ADEChallengeData2016").symlink_to(tmp_path / "ade")
    before = tree_of(tmp_path)
    code, _, told = prepare("ade20k", "--root", root, "--source", site.address, "--unverified")
    assert code == 1
    assert f"{root} holds " in told
    assert "already, which this command did not make" in told
    said = {"fewer": "(-20207)", "alone": "1 files without a picture", "empty": "no pictures of split=train"}
    assert said.get(fault, "no pictures") in told
    assert tree_of(tmp_path) == before
    assert site.requests == []


def test_other_files_in_the_folder_stay(archives: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert prepare("ade20k", "--root", tmp_path, "--source", archives, "--unverified")[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_merging_keeps_one_of_two_equal_files_and_refuses_different_ones(tmp_path: Path) -> None:
    for folder, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub" / "README").write_text(text)
        (tmp_path / folder / "sub" / folder).touch()
    merge(tmp_path / "b", tmp_path / "a")
    with pytest.raises(FileExistsError, match=r"README is there, and is not the file"):
        merge(tmp_path / "c", tmp_path / "a")
    assert (tmp_path / "a/sub/README").read_text() == "same"
    assert {path.name for path in (tmp_path / "a/sub").iterdir()} == {"README", "a", "b"}


def test_two_at_once_do_not_mix(archives: Path, tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    code, _, told = prepare("ade20k", "--root", tmp_path, "--source", archives, "--unverified")
    os.close(handle)
    assert code == 1
    assert f"another process is preparing {tmp_path}" in told
    assert prepare("ade20k", "--root", tmp_path, "--source", archives, "--unverified")[0] == 0


@pytest.mark.parametrize("name", ["plain", "with space", 'a"b', "a=b,c", "it's", "ä{x}", "back\\slash", "$HOME"])
def test_the_setting_for_the_training_is_quoted_for_shell_and_hydra(tmp_path: Path, name: str) -> None:
    (word,) = shlex.split(_override(tmp_path / name, Path("data/ade20k")))
    override = OverridesParser.create().parse_override(word)
    assert override.key_or_group == "dataset.root"
    assert override.value() == str(tmp_path / name)


def stopped(site: Site, root: Path, number: int) -> tuple[int, str, int]:
    """Send a signal to the command while it downloads: its exit code, its stderr, and how many bytes it had."""
    site.stall = Event()
    command = [sys.executable, "-m", "segmenter_pl.cli", "prepare", "ade20k", "--root", str(root), "--unverified"]
    process = subprocess.Popen(
        [*command, "--source", site.address],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # background processes inherit that it is ignored
    )
    part = root / ".preparing/ade20k/downloads" / f"{NAME}.part"
    while not part.exists() or part.stat().st_size < len(site.files[f"/{NAME}"]) // 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    told = process.communicate()[1]
    site.stall.set()
    site.stall, site.sent = None, []
    return process.returncode, told, part.stat().st_size


@pytest.mark.parametrize(
    ("number", "end"),
    [(signal.SIGKILL, (-9, "")), (signal.SIGINT, (130, "Stopped. The same command continues\n"))],
    ids=["killed", "ctrl-c"],
)
def test_the_command_is_stopped_while_it_downloads(
    number: int, end: tuple[int, str], site: Site, archives: Path, tmp_path: Path
) -> None:
    whole, root = tmp_path / "whole", tmp_path / "ade"
    code, told, arrived = stopped(site, root, number)
    assert (code, told) == end
    assert prepare("ade20k", "--root", root, "--source", site.address, "--unverified")[0] == 0
    assert site.sent == [len(site.files[f"/{NAME}"]) - arrived]
    assert prepare("ade20k", "--root", whole, "--source", archives, "--unverified")[0] == 0
    assert tree_of(root) == tree_of(whole)
