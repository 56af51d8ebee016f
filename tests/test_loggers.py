"""The metrics file through starts, stops and new columns."""

import csv
from pathlib import Path

import numpy as np
import pytest

from segmenter_pl.loggers import MetricsCSV


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_grow_by_step_and_columns_as_they_come(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    expected: dict[int, dict[str, str]] = {}
    rng = np.random.default_rng(0)
    for step in range(40):
        for _ in range(rng.integers(1, 4)):  # several calls add to one row
            key, value = f"key{rng.integers(0, 3 + step // 8)}", str(rng.integers(0, 10**6))
            logger.log_metrics({key: value, "epoch": 0}, step)
            expected.setdefault(step, {})[key] = value
            if rng.random() < 0.7:
                logger.save()
                rows = {
                    int(row["step"]): {k: v for k, v in row.items() if v and k != "step"} for row in read(logger.path)
                }
                assert rows == expected
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_names_with_commas_survive(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"val/iou/road, paved": 0.5}, 0)
    logger.save()
    logger.log_metrics({"val/iou/road, paved": 0.6}, 1)
    logger.save()
    assert read(logger.path) == [
        {"step": "0", "val/iou/road, paved": "0.5"},
        {"step": "1", "val/iou/road, paved": "0.6"},
    ]


@pytest.mark.parametrize("torn", [False, True])
def test_started_again_it_neither_repeats_nor_loses(torn: bool, tmp_path: Path) -> None:
    first = MetricsCSV(tmp_path)
    for step in range(6):
        first.log_metrics({"loss": 1.0 + step}, step)
        first.save()
    if torn:
        first.path.write_bytes(first.path.read_bytes()[:-2])
    second = MetricsCSV(tmp_path)
    for step in (4, 5, 6):
        second.log_metrics({"loss": 10.0 + step, "extra": 1}, step)
        second.save()
    assert [(row["step"], row["loss"]) for row in read(tmp_path / "metrics.csv")] == [
        ("0", "1.0"),
        ("1", "2.0"),
        ("2", "3.0"),
        ("3", "4.0"),
        ("4", "14.0"),
        ("5", "15.0"),
        ("6", "16.0"),
    ]
