"""What is shipped: every configuration file is in the wheel, and building it raises no warning."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_holds_every_module_and_configuration(tmp_path: Path) -> None:
    copy = tmp_path / "source"  # building leaves files behind, which would end up in the next wheel
    for folder in ("src", "conf", "experiments"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "absent from the `packages` configuration" not in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("segmenter_pl/")}
    homes = {"src/segmenter_pl": "segmenter_pl", "conf": "segmenter_pl/conf", "experiments": "segmenter_pl/experiments"}
    expected = {
        f"{home}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, home in homes.items()
        for pattern in ("*.py", "*.yaml", "*.csv", "*.html", "*.css", "*.js", "*.svg", "py.typed")
        for path in (ROOT / folder).rglob(pattern)
    }
    assert shipped == expected
