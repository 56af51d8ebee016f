"""Shared assets, and a word on what was skipped without them."""

import os
from pathlib import Path

import pytest
import torch

from segmenter_pl.report import EXPECTED_WARNINGS

torch.set_num_threads(1)  # tiny tensors: threads cost more than they give


def pytest_configure(config: pytest.Config) -> None:
    for message in EXPECTED_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


def assets_folder() -> Path | None:
    """The folder with golden/ and data/: SEGMENTER_TEST_ASSETS, else `shared` beside the checkout."""
    folder = Path(os.environ.get("SEGMENTER_TEST_ASSETS") or Path(__file__).parents[2] / "shared")
    return folder if (folder / "golden").is_dir() else None


@pytest.fixture(scope="session")
def assets() -> Path:
    folder = assets_folder()
    if folder is None:
        pytest.skip("no shared assets: set SEGMENTER_TEST_ASSETS to the folder with golden/ and data/")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "no shared assets" in str(r.longrepr)]
    folder = assets_folder()
    where = "not found (SEGMENTER_TEST_ASSETS)" if folder is None else "found"
    terminalreporter.write_line(f"shared assets {where}: {len(skipped)} tests skipped for want of them")
