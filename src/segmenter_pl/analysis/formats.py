"""Tables as text: CSV for programs, Markdown for pages, LaTeX for papers."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from segmenter_pl.analysis.tables import Spread, Table

DIGITS = 4  # of fractions
LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "†": r"$\dagger$",
    "−": "$-$",
    "…": r"\dots{}",
}


def csv_text(table: Table) -> str:
    """Every digit; a mean's deviation in a column of its own."""
    spread = [key for key in _columns(table) if any(isinstance(row.get(key), Spread) for row in table)]
    rows = []
    for row in table:
        plain: dict[str, Any] = {}
        for key, value in row.items():
            plain[key] = value.mean if isinstance(value, Spread) else value
            if key in spread:
                plain[f"{key}_deviation"] = value.deviation if isinstance(value, Spread) else None
        rows.append(plain)
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown_text(table: Table) -> str:
    columns = _columns(table)
    lines = [[_markdown(key) for key in columns], [":-" if _is_text(table, key) else "-:" for key in columns]]
    lines += [[_markdown(shown(row.get(key), key)) for key in columns] for row in table]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def latex_text(table: Table) -> str:
    """A tabular with the rules of booktabs."""
    columns = _columns(table)
    heads, *rows = [
        " & ".join(cells) + r" \\"
        for cells in (
            [_latex(key) for key in columns],
            *([_latex(shown(row.get(key), key)) for key in columns] for row in table),
        )
    ]
    alignment = "".join("l" if _is_text(table, key) else "r" for key in columns)
    lines = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", heads, r"\midrule"]
    return "\n".join([*lines, *rows, r"\bottomrule", r"\end{tabular}", ""])


FORMATS: dict[str, Callable[[Table], str]] = {"csv": csv_text, "markdown": markdown_text, "latex": latex_text}
SUFFIXES = {".csv": "csv", ".md": "markdown", ".tex": "latex"}


def shown(value: Any, column: str = "") -> str:
    """A value for people: four digits of a fraction, one of a rate, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, Spread):
        spread = "" if value.deviation is None else f" ± {shown(value.deviation, column)}"
        return f"{shown(value.mean, column)}{spread}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if "difference" in column:
        return f"{value:+.{DIGITS}f}" if abs(value) < 1 else f"{value:+.2f}"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if column == "parameters" else str(value)
    if "per_second" in column or "millions" in column or "memory" in column:
        return f"{value:.2f}".rstrip("0").rstrip(".") if "images" not in column else f"{value:.1f}".removesuffix(".0")
    return f"{value:.{DIGITS}f}" if abs(value) < 10 and "." not in column else f"{value:g}"


def _columns(table: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in table for key in row))


def _is_text(table: Table, key: str) -> bool:
    return any(isinstance(row.get(key), str) for row in table)


def _markdown(text: str) -> str:
    """Such that a cell stays one cell, and shows the very characters."""
    text = re.sub(r"([\\`*<\[|])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # within a word it is no emphasis


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))
