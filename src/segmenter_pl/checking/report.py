"""The files that a check leaves: everything as data, the classes as a table and as a plot."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from segmenter_pl.checking.findings import NOTES, PROBLEMS, Finding
from segmenter_pl.checking.plots import class_bars
from segmenter_pl.checking.survey import Survey
from segmenter_pl.files import fresh

FILES = ("classes.csv", "classes.png", "report.json")


def write_report(survey: Survey, name: str, folder: Path) -> None:
    """Write FILES into `folder`, each as a whole; report.json, the last, says that all are there.

    Raises: OSError that names the file.
    """
    labelled = {split: tally.shares for split, tally in survey.tallies.items() if tally.labels is not None}
    with fresh(folder / "classes.csv") as temporary:
        temporary.write_text(classes_csv(survey), encoding="utf-8")
    with fresh(folder / "classes.png") as temporary:
        class_bars(labelled, survey.classes.names, survey.classes.palette, name).save(temporary)
    with fresh(folder / "report.json") as temporary:
        temporary.write_text(json.dumps(report(survey, name), indent=1) + "\n")


def reported(folder: Path) -> Path | None:
    """The root of the dataset whose report a folder holds; None if it holds none that can be read."""
    try:
        return Path(json.loads((folder / "report.json").read_text())["root"]).resolve()
    except (OSError, ValueError, KeyError, TypeError):
        return None


def report(survey: Survey, name: str) -> dict[str, Any]:
    """All that was found, as plain data; shares are fractions."""
    splits = {}
    for split, tally in survey.tallies.items():
        columns = zip(survey.classes.names, tally.pixels, tally.shares, tally.holding, strict=False)
        classes = [
            {"id": k, "name": name, "pixels": int(pixels), "share": float(share), "pictures": int(holding)}
            for k, (name, pixels, share, holding) in enumerate(columns)
        ]
        splits[split] = tally.plain() | {"classes": classes}
    return {
        "dataset": name,
        "root": str(survey.datamodule.root.absolute()),
        "sound": not survey.problems,
        "problems": [_plain(one, PROBLEMS) for one in survey.problems],
        "notes": [_plain(one, NOTES) for one in survey.notes],
        "splits": splits,
    }


def classes_csv(survey: Survey) -> str:
    """One row per class and one for ignored pixels, with pixels, share and pictures of every split."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    columns = ("pixels", "share", "pictures")
    tallies = {split: tally for split, tally in survey.tallies.items() if tally.labels is not None}
    table.writerow(["id", "name", *(f"{split}_{column}" for split in tallies for column in columns)])
    for k, name in enumerate(survey.classes.names):
        cells = [(int(t.pixels[k]), float(t.shares[k]), int(t.holding[k])) for t in tallies.values()]
        table.writerow([k, name, *(cell for row in cells for cell in row)])
    table.writerow(["", "(ignored)", *(cell for t in tallies.values() for cell in (int(t.pixels[-1]), t.ignored, ""))])
    return text.getvalue()


def _plain(one: Finding, headings: dict[str, str]) -> dict[str, Any]:
    file = None if one.file is None else str(one.file)
    return {"kind": one.kind, "meaning": headings[one.kind], "split": one.split, "file": file, "text": one.text}
