"""Mean attention distance as a table and a plot (Segmenter, Figure 7). Shapes: L layers, A heads."""

import csv
from pathlib import Path

from torch import Tensor

from segmenter_pl.analysis.drawing import COLORS, drawn, faint_grid
from segmenter_pl.files import fresh


def write_distances(distances: Tensor, path: Path) -> None:
    """A CSV file with a row for each layer and head, of distances (L, A) in pixels."""
    with fresh(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("layer", "head", "mean_distance_pixels"))
        for layer, heads in enumerate(distances.tolist()):
            writer.writerows((layer, head, f"{value:.4f}") for head, value in enumerate(heads))


def draw_distances(distances: Tensor, path: Path) -> None:
    """A point for each head over the number of its layer, of distances (L, A) in pixels; a line for the mean.

    Raises: ValueError as `drawing.require_possible`.
    """
    depth, heads = distances.shape
    with drawn(path) as (axes,):
        for head in range(heads):
            label = "one head" if head == 0 else None
            axes.plot(range(depth), distances[:, head].tolist(), "o", color=COLORS[4], markersize=5, label=label)
        axes.plot(range(depth), distances.mean(1).tolist(), color=COLORS[0], label="mean over heads")
        axes.set(xlabel="layer of the encoder", ylabel="mean attention distance (pixels)")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=9)
        faint_grid(axes)
