"""The work of `segmenter attention`: from pictures to maps to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from segmenter_pl.analysis.attention import number_of_heads, read_attention, require_attention
from segmenter_pl.analysis.attention_drawing import marked, sheet
from segmenter_pl.analysis.attention_measures import rollout_maps
from segmenter_pl.analysis.attention_queries import (
    Query,
    class_queries,
    class_token_query,
    find_heads,
    find_layer,
    patch_query,
    pixel_query,
)
from segmenter_pl.analysis.seen import Seen, enough_memory
from segmenter_pl.commands.attention_written import (
    Style,
    Tile,
    file_name,
    save_png,
    write_official,
    write_overlays,
)
from segmenter_pl.commands.inputs import Job
from segmenter_pl.pictures import RGB, read_rgb
from segmenter_pl.predictor import Predictor


class Looking:
    """A model, and what is asked of it.

    Args:
        who: `cls`, `classes` (names), `pixel` and `patch` (x, y) as the command's options are.
        look: `encoder`, `layer_id`, `heads` and `rollout` likewise.
        style: `cmap`, `alpha`, `clip` and `weights` of `Style`.

    Raises: ValueError for a layer or a head that the model does not have.
    """

    def __init__(self, predictor: Predictor, who: dict[str, Any], look: dict[str, Any], style: dict[str, Any]) -> None:
        self.predictor, self.model, self.who = predictor, require_attention(predictor.model), who
        layer = find_layer(self.model, "enc" if look["encoder"] else "dec", look["layer_id"])
        heads = find_heads(look["heads"], number_of_heads(self.model, layer))
        self.style = Style(layer, tuple(heads), look["rollout"], **style)

    def queries(self, seen: Seen) -> list[Query]:
        """Who looks at a picture. Raises ValueError for a patch, pixel or class that is not there."""
        part = self.style.layer[0]
        if self.who["classes"] or (self.who["cls"] and part == "dec"):
            return class_queries(self.model, seen, self.who["classes"] or ())
        if self.who["cls"]:
            return [class_token_query(self.model)]
        if self.who["pixel"] is not None:
            return [pixel_query(self.model, part, seen, *self.who["pixel"])]
        return [patch_query(self.model, part, seen, *self.who["patch"])]

    def seen(self, rgb: RGB) -> Seen:
        """A picture as the model sees it."""
        short_side = self.predictor.settings["short_side"]
        return Seen.whole(rgb, short_side, self.model.encoder.patch_size, self.predictor.device)

    def maps(self, seen: Seen, queries: list[Query]) -> NDArray:
        """(queries, A, h, w) float32 of the heads that are shown."""
        rows, layer = [query.row for query in queries], self.style.layer
        with enough_memory(seen):
            if self.style.rollout:
                found = rollout_maps(self.model, seen.image, layer, rows)
            else:
                (found,) = read_attention(self.model, seen.image, [layer], lambda attention: attention.maps(rows))
        maps = found[0].transpose(0, 1).cpu().numpy()  # (R, all heads, h, w)
        if not bool(torch.from_numpy(maps).isfinite().all()):
            raise ValueError("the model's attention is not finite: its weights are spoilt")
        chosen = [self.style.chosen(one) for one in maps]
        return torch.stack([torch.from_numpy(one) for one in chosen]).numpy()

    def write(self, seen: Seen, name: str, out: Path, *, official: bool) -> tuple[str, list[Tile]]:
        """Look at one picture and write its files; returns what to say, and the titled overlays."""
        queries = self.queries(seen)
        folder = out / name / self.style.name
        encoder = self.model.encoder
        statistics = encoder.pixel_mean.flatten().cpu().numpy(), encoder.pixel_std.flatten().cpu().numpy()
        tiles: list[Tile] = []
        for query, maps in zip(queries, self.maps(seen, queries), strict=True):
            if official:
                write_official(seen, query, maps, self.style, out, statistics)
            else:
                tiles += write_overlays(seen, query, maps, self.style, folder / file_name(query))
        return f"{self.told(seen, queries)} → {out / self.style.name if official else folder}", tiles

    def told(self, seen: Seen, queries: list[Query]) -> str:
        """What is shown."""
        height, width = seen.grid
        who = queries[0].title if len(queries) == 1 else f"{len(queries)} classes"
        heads = "rollout" if self.style.rollout else f"{len(self.style.heads)} head{'s'[: len(self.style.heads) > 1]}"
        merging = ", token merging off" if self.model.encoder.merging is not None else ""
        return f"{self.style.name}, {who}, {heads}, {width}x{height} patches{merging}"


def picture(lookings: Sequence[Looking], job: Job, out: Path, *, official: bool) -> str:
    """Look at one picture in one or several layers and write its files; returns what to say.

    Several overlays of different layers or classes also come together, as overview.png.
    """
    assert isinstance(job.source, Path)
    seen = lookings[0].seen(read_rgb(job.source))
    queries = lookings[0].queries(seen)
    done = [looking.write(seen, job.name.stem, out, official=official) for looking in lookings]
    said = [one for one, _ in done]
    if not official and len(lookings) * len(queries) > 1:
        path = out / job.name.stem / "overview.png"
        shown = (job.name.name, marked(seen.rgb, seen, queries[0].patch))
        save_png(sheet([shown, *(tile for _, tiles in done for tile in tiles)]), path)
        said.append(f"all of them → {path}")
    return "\n".join(said)
