"""Class embeddings as plots and tables. Shapes: K classes."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segmenter_pl.analysis.drawing import drawn, faint_grid
from segmenter_pl.files import fresh
from segmenter_pl.visualize import Palette

CELL = 0.19  # inches, of a class in the matrix
MOST_NUMBERS = 30  # classes whose cosines are written into the matrix


def write_table(path: Path, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A CSV file."""
    with fresh(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heading, *rows])


def draw_projection(
    coordinates: Tensor, names: Sequence[str], palette: Palette, axes_names: tuple[str, str], title: str, path: Path
) -> None:
    """Points (K, 2) in the classes' colours, with their names. Raises: ValueError as `drawing.require_possible`."""
    side = 6.5 if len(names) <= 40 else 11.0
    with drawn(path, side * 1.15, side) as (axes,):
        x, y = coordinates.T.numpy()
        colors = np.asarray(palette, float)[: len(names)] / 255
        axes.scatter(x, y, s=36, c=colors, edgecolors="black", linewidths=0.5)
        axes.margins(x=0.12, y=0.06)
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1], title=title)
        faint_grid(axes)
        _name_points(axes, np.stack([x, y], axis=1), names, 9 if len(names) <= 40 else 7)


def _name_points(axes: Any, points: NDArray, names: Sequence[str], size: int) -> None:
    """Each name right of its point, or where it covers fewest of the names that stand already."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()  # the sizes of letters beside points are known only when all else has its place
    renderer = canvas.get_renderer()
    places = [
        (5, 0, "left", "center"),
        (-5, 0, "right", "center"),
        (0, 5, "center", "bottom"),
        (0, -5, "center", "top"),
    ]
    taken: list[Any] = []
    for point, name in zip(points.tolist(), names, strict=True):
        best: tuple[int, Any, Any] | None = None
        for dx, dy, across, down in places:
            text = axes.annotate(name, point, (dx, dy), textcoords="offset points", fontsize=size, ha=across, va=down)
            box = text.get_window_extent(renderer)
            covered = sum(box.overlaps(other) for other in taken)
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = (covered, text, box)
            else:
                text.remove()
        assert best is not None
        taken.append(best[2])


def grouped(similarity: Tensor) -> list[int]:
    """An order of the classes in which like ones stand together: the leaves of their tree, by mean cosine."""
    if len(similarity) < 3:
        return list(range(len(similarity)))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = squareform(1 - similarity.double().numpy(), checks=False)
    return [int(k) for k in leaves_list(linkage(distance, "average", optimal_ordering=True))]


def draw_similarity(similarity: Tensor, names: Sequence[str], path: Path) -> None:
    """Cosines (K, K) as a matrix of colours, like classes beside each other.

    Raises: ValueError as `drawing.require_possible`.
    """
    order = grouped(similarity)
    few = len(names) <= MOST_NUMBERS
    side = max(3.0, (0.36 if few else CELL) * len(names))
    with drawn(path, side + 3.0, side + 2.0) as (axes,):
        values = similarity[order][:, order].numpy()
        image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        labels = [names[k] for k in order]
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=8 if few else 7)
        axes.set_yticks(range(len(names)), labels, fontsize=8 if few else 7)
        if few:
            for i, row in enumerate(values):
                for j, value in enumerate(row):
                    color = "white" if abs(value) > 0.6 else "black"
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
        axes.figure.colorbar(image, ax=axes, shrink=0.6, label="cosine")
