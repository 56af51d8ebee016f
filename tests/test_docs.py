"""The pages in docs/: what they promise is tested."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("page", "least"), [("faults", 40), ("security", 25)])
def test_every_row_has_its_test(page: str, least: int) -> None:
    lines = (ROOT / f"docs/{page}.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(("| fault |", "| threat |"))]
    assert len(rows) > least
    for row in rows:
        (named,) = re.findall(r"`((?:\w+/)?test_\w+)::(test_\w+)`", row.split("|")[-2])
        assert f"\ndef {named[1]}(" in (ROOT / "tests" / f"{named[0]}.py").read_text(), row
