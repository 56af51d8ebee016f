"""What is on disk between two runs of `segmenter prepare`."""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from segmenter_pl.files import fresh


def tidy(work: Path, keep: Sequence[str]) -> None:
    """Remove our own working files but those to keep, and folders that are empty then."""
    for entry in [entry for entry in work.glob("*") if entry.name not in keep]:
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    for folder in (work, work.parent):
        with suppress(OSError):
            folder.rmdir()


def read(path: Path) -> dict[str, Any]:
    """What was written, {} if nothing was. Raises: ValueError for a damaged file."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it") from error


def write(path: Path, data: dict[str, Any]) -> None:
    """As a whole or not at all."""
    with fresh(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1))
