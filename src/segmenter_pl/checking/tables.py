"""A survey in lines for a terminal, or for a file that a terminal's output goes to."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from segmenter_pl.checking.findings import NOTES, PROBLEMS, Finding
from segmenter_pl.checking.survey import Survey
from segmenter_pl.checking.tally import Tally

SHOWN = 10  # findings of a kind


def split_lines(tallies: Mapping[str, Tally]) -> list[str]:
    """A table of the splits: numbers of files, ignored pixels, sizes."""
    rows = [["split", "pictures", "labels", "pairs", "pixels that count", "ignored", "width", "height", "megapixels"]]
    for split, tally in tallies.items():
        labels = "none" if tally.labels is None else str(tally.labels)
        counted = [f"{tally.pixels[:-1].sum():,}", f"{100 * tally.ignored:.2f} %"] if tally.labels else ["", ""]
        extents = [_range(**extent) for extent in tally.extents().values()] or ["", "", ""]
        rows.append([split, str(tally.pictures), labels, str(tally.pairs), *counted, *extents])
    return [*aligned(rows, left=1), *_common_sizes(tallies)]


def class_lines(survey: Survey) -> list[str]:
    """The histogram: one line per class, with pixels, share of those that count, and pictures of every split."""
    tallies = {split: tally for split, tally in survey.tallies.items() if tally.labels is not None}
    header = ["id", "class", *(cell for split in tallies for cell in (f"{split}: pixels", "share", "pictures"))]
    rows = [header]
    for k, name in enumerate(survey.classes.names):
        cells = [(f"{t.pixels[k]:,}", f"{100 * t.shares[k]:.3f} %", str(t.holding[k])) for t in tallies.values()]
        rows.append([str(k), name, *(cell for row in cells for cell in row)])
    return aligned(rows, left=2)


def finding_lines(findings: Sequence[Finding], survey: Survey) -> Iterator[str]:
    """Findings by kind, the first SHOWN of each."""
    for kind, heading in (PROBLEMS | NOTES).items():
        some = [one for one in findings if one.kind == kind]
        if some:
            yield f"{heading} ({len(some)}):"
            yield from (f"    {one}" for one in some[:SHOWN])
            if len(some) > SHOWN:
                yield f"    … and {len(some) - SHOWN} more, see report.json"
        if some and kind == "unknown value":
            yield from _unknown(survey)


def verdict(survey: Survey, name: str) -> str:
    """The last line."""
    kinds = Counter(one.kind for one in survey.problems)
    pairs = sum(tally.pairs for tally in survey.tallies.values())
    read = f"{pairs} pairs of {', '.join(survey.tallies)}" if survey.tallies else "nothing to read"
    if not kinds:
        differs = any(one.kind == "count" for one in survey.notes)
        return f"{name}: no problem in {read}{', but not the published number of pictures' * differs}"
    number = f"{sum(kinds.values())} problem{'s' if sum(kinds.values()) > 1 else ''}"
    return f"{name}: {number} in {read} ({', '.join(f'{kind}: {n}' for kind, n in kinds.items())})"


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines with columns below each other; the first `left` are flush left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:{'<' if i < left else '>'}{widths[i]}}" for i, cell in enumerate(row)).rstrip()
        for row in rows
    ]


def _range(min: float, median: float, max: float) -> str:
    low, middle, high = (f"{round(value, 2):g}" for value in (min, median, max))
    return low if min == max else f"{low} – {middle} – {high}"


def _common_sizes(tallies: Mapping[str, Tally]) -> Iterator[str]:
    for split, tally in tallies.items():
        if len(tally.sizes) > 1:
            common = ", ".join(f"{w}x{h} ({n})" for (w, h), n in tally.sizes.most_common(3))
            yield f"{split}: {len(tally.sizes)} sizes (least – median – most above), most often {common}"


def _unknown(survey: Survey) -> Iterator[str]:
    for split, tally in survey.tallies.items():
        values = sorted(tally.unknown.items(), key=lambda item: -item[1][0])[:SHOWN]
        shown = ", ".join(f"{value} (labels: {labels}, pixels: {pixels:,})" for value, (labels, pixels) in values)
        if shown:
            yield f"    values in {split}: {shown}"
    yield f"    classes are from {survey.datamodule.source}"
