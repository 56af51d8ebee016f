"""Killed before any one of its operations on files, or out of space: the next run ends as if nothing had happened.

Run as a script it is the process that does this: it imports once, and forks for every attempt.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import layouts
from tests.packing import pascal_archives, tree_of, zipped

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "shutil.copyfile")
NAME = "ADEChallengeData2016.zip"


def forked(act, kill_at: int | None, root: Path) -> int:
    """Run `act` in a process that kills itself before its change number `kill_at` below `root`; the exit status."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    changes = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal changes
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in CHANGES or writes:
            changes += 1
            if changes == kill_at:
                os.kill(os.getpid(), 9)

    try:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        sys.addaudithook(watch)
        act(root)
        os._exit(0)
    except BaseException as error:
        os.write(1, f"{error!r}\n".encode())
        os._exit(1)


def killed(folder: Path) -> None:
    """Both a plain dataset of two archives, and one that is converted."""
    from segmenter_pl.prepare import cityscapes, pascal_context
    from segmenter_pl.prepare.steps import Options, prepare

    layouts.cityscapes(folder / "cs")
    more = {"README": b"read me"}
    zipped(folder / "archives/leftImg8bit_trainvaltest.zip", folder / "cs", "leftImg8bit", more=more)
    zipped(folder / "archives/gtFine_trainvaltest.zip", folder / "cs", "gtFine", more=more)
    layouts.pascal_context(folder / "pc")
    ids = {"train": {"2008_000002": np.ones((40, 56), np.uint16)}, "val": {"2008_000003": np.ones((40, 56), np.uint8)}}
    pascal_archives(folder / "archives", folder / "pc", ids)
    options = Options([str(folder / "archives")], unverified=True)
    for module, step in ((cityscapes, 1), (pascal_context, 3)):

        def act(root: Path, module=module) -> None:
            prepare(module.recipe(), root, options)

        name = module.__name__.rpartition(".")[2]
        assert forked(act, None, folder / name / "whole") == 0
        expected, number = tree_of(folder / name / "whole"), 0
        while True:
            number += step
            root = folder / name / str(number)
            status = forked(act, number, root)
            if status == 0:
                break
            assert status == 9
            assert forked(act, None, root) == 0, f"{name} after {number}"
            assert tree_of(root) == expected, f"{name} after {number}"
        print(f"{name} killed before {number // step - 1} of its changes")
    print("as expected")


def full_disk(folder: Path) -> None:
    """In a mount namespace of its own, where mounting is allowed and ends with the process."""
    from tests.packing import prepare
    from tests.serving import serving

    layouts.ade20k(folder / "tree", train=40)
    more = {"ADEChallengeData2016/objectInfo150.txt": np.random.default_rng(0).bytes(900_000)}
    archive = zipped(folder / NAME, folder / "tree", "ADEChallengeData2016", more=more)
    for name in ("a", "b"):
        (folder / name).mkdir()

    def mount(name: str, *options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder / name)], check=True)

    mount("a", "size=512k")
    with serving(files={f"/{NAME}": archive.read_bytes()}, tags={f"/{NAME}": '"1"'}, sized=False) as site:
        words = ("ade20k", "--root", folder / "a/ade", "--source", site.address, "--unverified")
        code, _, told = prepare(*words)
        assert (code, len(told.splitlines())) == (1, 2), told
        assert f"{NAME}.part cannot be written (No space left on device): make room, then the same" in told
        subprocess.run(["mount", "-o", "remount,size=1200k", str(folder / "a")], check=True)
        arrived = (folder / f"a/ade/.preparing/ade20k/downloads/{NAME}.part").stat().st_size
        assert arrived > 200_000
        code, _, told = prepare(*words)
        assert code == 1
        assert "make room" in told
        assert not (folder / "a/ade/ADEChallengeData2016").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder / "a")], check=True)
        assert prepare(*words)[0] == 0
        assert len(site.requests) == 2
        assert site.ranges_asked[1] == f"bytes={arrived}-"
    mount("b", "size=64m", "nr_inodes=40")  # room for the bytes, not for so many files
    words = ("ade20k", "--root", folder / "b/ade", "--source", archive, "--unverified")
    code, _, told = prepare(*words)
    assert code == 1
    assert f"{NAME} cannot be unpacked to" in told
    assert "(No space left on device)" in told
    assert not list((folder / "b").rglob("*.jpg"))
    subprocess.run(["mount", "-o", "remount,nr_inodes=4000", str(folder / "b")], check=True)
    assert prepare(*words)[0] == 0
    assert tree_of(folder / "a/ade") == tree_of(folder / "b/ade")
    print("as expected")


def script(*command: str) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("as expected\n"), done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_before_any_change_on_the_disk(tmp_path: Path) -> None:
    said = script(sys.executable, __file__, "killed", str(tmp_path))
    numbers = [int(line.split()[3]) for line in said.splitlines() if " killed " in line]
    assert len(numbers) == 2
    assert min(numbers) > 20


def test_a_full_disk(tmp_path: Path) -> None:
    private = ["unshare", "--map-root-user", "--mount"]
    if sys.platform != "linux" or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("needs Linux and the right to make a mount namespace")
    script(*private, sys.executable, __file__, "full_disk", str(tmp_path))


if __name__ == "__main__":
    {"killed": killed, "full_disk": full_disk}[sys.argv[1]](Path(sys.argv[2]))
