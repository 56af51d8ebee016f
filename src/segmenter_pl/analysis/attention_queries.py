"""Whose attention is asked for: rows of a layer, found by patch, by pixel, as class token or by the name of a class."""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from segmenter_pl.analysis.attention import Layer, Part, number_of_layers
from segmenter_pl.analysis.seen import Seen
from segmenter_pl.models import EncoderDecoder, Segmenter

MOST_NAMES = 30  # told in an error
MEAN = "mean"


@dataclass(frozen=True)
class Query:
    """One token that looks at the picture.

    Attributes:
        row: among the layer's tokens. title: for people. patch: its column and row, of a patch.
        number: its class, of a class embedding.
    """

    row: int
    title: str
    patch: tuple[int, int] | None = None
    number: int | None = None


def find_layer(model: Segmenter, part: Part, number: int) -> Layer:
    """A layer by its number from 0, or from the end below 0. Raises ValueError where there is none."""
    count = number_of_layers(model, part)
    if not count:
        raise ValueError("--dec: this model's decoder has no attention: give --enc, or a model with the mask decoder")
    if not -count <= number < count:
        where = "encoder" if part == "enc" else "decoder"
        raise ValueError(
            f"--layer-id {number}: the {where} has {count} layers: give 0 to {count - 1}, or -1 for the last"
        )
    return part, number % count


def find_heads(words: Sequence[str], count: int) -> list[int | None]:
    """Numbers of heads, None for the mean over all of them; no words are all heads. Raises ValueError."""
    if wrong := [word for word in words if word != MEAN and not (word.isdecimal() and int(word) < count)]:
        raise ValueError(f"--head {wrong[0]}: the layer has {count} heads: give 0 to {count - 1}, or {MEAN}")
    return [None if word == MEAN else int(word) for word in dict.fromkeys(words)] or list(range(count))


def patch_query(model: Segmenter, part: Part, seen: Seen, x: int, y: int) -> Query:
    """The patch in column x and row y, from 0. Raises ValueError where there is none."""
    height, width = seen.grid
    for option, value, count in (("--x-patch", x, width), ("--y-patch", y, height)):
        if not 0 <= value < count:
            raise ValueError(
                f"{option} {value}: the picture has {width}x{height} patches (columns x rows) as the model sees it: "
                f"give 0 to {count - 1}"
            )
    prefix = model.encoder.vit.num_prefix_tokens if part == "enc" else 0
    return Query(prefix + y * width + x, f"patch {x}, {y}", patch=(x, y))


def pixel_query(model: Segmenter, part: Part, seen: Seen, x: int, y: int) -> Query:
    """The patch that holds the pixel (x, y) of the picture, from 0 and the upper left. Raises ValueError."""
    height, width = seen.rgb.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(
            f"--pixel {x} {y}: the picture has {width}x{height} pixels: give X in 0…{width - 1}, Y in 0…{height - 1}"
        )
    return patch_query(model, part, seen, *seen.patch_at(x, y))


def class_token_query(model: Segmenter) -> Query:
    """The encoder's class token. Raises ValueError where it has none."""
    if getattr(model.encoder.vit, "cls_token", None) is None:
        raise ValueError("--cls: this encoder has no class token: ask for a patch, or for classes with --dec --cls")
    return Query(0, "class token")


def class_queries(model: Segmenter, seen: Seen, wanted: Sequence[str] = ()) -> list[Query]:
    """Class embeddings of the mask decoder by name or number; all of them where none is named.

    Raises: ValueError for a class that the model does not know; it tells those that it does.
    """
    names = class_names(model)
    numbers = [find_class(word, names) for word in wanted] or list(range(len(names)))
    first = seen.grid[0] * seen.grid[1]
    return [Query(first + k, names[k], number=k) for k in dict.fromkeys(numbers)]


def class_names(model: EncoderDecoder) -> tuple[str, ...]:
    """K names; numbers where the checkpoint has none."""
    return (model.spec and model.spec.classes) or tuple(f"class {k}" for k in range(model.num_classes))


def find_class(word: str, names: Sequence[str]) -> int:
    """The number of a class by its name, whatever the case, or by its number. Raises ValueError."""
    folded = [name.casefold() for name in names]
    if word.casefold() in folded:
        return folded.index(word.casefold())
    if word.isdecimal() and int(word) < len(names):
        return int(word)
    shown: Sequence[str] = names
    if len(names) > MOST_NAMES:
        shown = [*(get_close_matches(word, names, n=5, cutoff=0.5) or names[:MOST_NAMES]), "…"]
    raise ValueError(
        f"--class {reprlib.repr(word)}: there is no such class: give {', '.join(shown)}, or a number from 0 to "
        f"{len(names) - 1}"
    )
