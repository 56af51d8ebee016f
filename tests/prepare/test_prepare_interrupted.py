"""Killed before any one of its operations on files, or out of space: the next run ends as if nothing had happened.

Run as a script it is the process that does this: it imports once, and forks for every attempt.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.packing import ARCHIVES, tree_of

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "shutil.copyfile")


class Ended(NamedTuple):
    status: int  # as of waitpid
    changes: int  # before which it could have been killed; 0 if it was


def forked(act: Callable[[Path], None], kill_at: int | None, root: Path) -> Ended:
    """Run `act` in a process that kills itself before its change number `kill_at`."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        with os.fdopen(reading) as said:
            changes = int(said.read() or 0)
        return Ended(os.waitpid(child, 0)[1], changes)
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
        os.write(writing, str(changes).encode())
        os._exit(0)
    except BaseException as error:
        os.write(1, f"{error!r}\n".encode())
        os._exit(1)


def killed(folder: Path) -> None:
    """Every dataset, killed some thirty times: each time, the next run must end with the same files."""
    from importlib import import_module

    from segmenter_pl.prepare.steps import Options, prepare

    for name, make in ARCHIVES.items():
        recipe = import_module(f"segmenter_pl.prepare.{name}").recipe
        options = Options([str(make(folder / name)[0].parent)], unverified=True)

        def act(root: Path, recipe=recipe, options=options) -> None:
            prepare(recipe(), root, options)

        total = forked(act, None, folder / name / "whole").changes
        expected, step, times = tree_of(folder / name / "whole"), max(1, total // 30), 0
        for number in range(1, total + 1, step):
            root = folder / name / str(number)
            assert forked(act, number, root).status == 9, f"{name} before {number}"
            assert forked(act, None, root).status == 0, f"{name} after {number}"
            assert tree_of(root) == expected, f"{name} after {number}"
            times += 1
        print(f"{name} killed {times} times")
    print("as expected")


def full_disk(folder: Path) -> None:
    """Every dataset on a disk that grows; in a mount namespace, where mounting is allowed and ends with the process."""
    from tests.packing import prepare
    from tests.serving import serving

    disk = folder / "disk"
    disk.mkdir()

    def mount(*options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(disk)], check=True)

    for name, make in ARCHIVES.items():
        archives = make(folder / name)
        files = {f"/{path.name}": path.read_bytes() for path in archives}
        root, told = disk / name, []
        for option, room in (("size", range(24 * 1024, 10**7, 24 * 1024)), ("nr_inodes", range(4, 10**4, 6))):
            mount("size=64m", f"{option}={room[0]}")
            with serving(files=files, tags=dict.fromkeys(files, '"1"'), sized=False) as site:
                for limit in room:
                    subprocess.run(["mount", "-o", f"remount,{option}={limit}", str(disk)], check=True)
                    code, _, said = prepare(name, "--root", root, "--source", site.address, "--unverified")
                    if code == 0:
                        break
                    assert "make room" in said, said
                    assert not root.exists() or {path.name for path in root.iterdir()} <= {".preparing"}, name
                    told.append(said)
            if option == "size":
                for path in files:  # each time from where it had come to
                    asked = [r for p, r in zip(site.requests, site.ranges_asked, strict=True) if p == path]
                    starts = [int(r.removeprefix("bytes=").removesuffix("-")) if r else 0 for r in asked]
                    assert starts == sorted(starts), starts
                tree = tree_of(root)
            else:
                assert tree_of(root) == tree
            subprocess.run(["umount", str(disk)], check=True)
        full = [said for said in told if "(No space left on device)" in said]
        for broken in ("cannot be unpacked", ".part cannot be written"):
            assert any(broken in said for said in full), told
        print(f"{name} met a full disk {len(told)} times")
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
    times = {line.split()[0]: int(line.split()[2]) for line in said.splitlines()[:-1]}
    assert times.keys() == ARCHIVES.keys()
    assert min(times.values()) >= 20


def test_a_full_disk(tmp_path: Path) -> None:
    private = ["unshare", "--map-root-user", "--mount"]
    if sys.platform != "linux" or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("needs Linux and the right to make a mount namespace")
    script(*private, sys.executable, __file__, "full_disk", str(tmp_path))


if __name__ == "__main__":
    {"killed": killed, "full_disk": full_disk}[sys.argv[1]](Path(sys.argv[2]))
