"""The pages in docs/: what they promise is tested."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_fault_has_its_test() -> None:
    rows = [line for line in (ROOT / "docs/faults.md").read_text().splitlines() if line.startswith("| ")]
    faults = [row for row in rows if not row.startswith("| fault |")]
    assert len(faults) > 40
    for row in faults:
        (named,) = re.findall(r"`((?:prepare/)?test_\w+)::(test_\w+)`", row.split("|")[-2])
        assert f"\ndef {named[1]}(" in (ROOT / "tests" / f"{named[0]}.py").read_text(), row
