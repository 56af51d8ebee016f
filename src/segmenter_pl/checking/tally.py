"""What a split holds, summed over its pairs."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmenter_pl.checking.pairs import Examined

USUAL_KIND = "RGB"


@dataclass
class Tally:
    """Sums over a split with K classes; `add` takes one pair's results.

    Attributes:
        pictures, labels: how many files there are; `labels` None: the split has none by its nature.
        pixels: (K + 1,) of all labels that could be read, the ignored ones last.
        holding: (K,) labels with at least one pixel of the class.
        sizes: number of pictures by (width, height). kinds: by what they are on disk.
        unknown: (labels, pixels) by label value that has no class.
        copies: files of the same pixels, by digest.
    """

    num_classes: int
    pictures: int
    labels: int | None
    pixels: NDArray[np.int64] = field(init=False)
    holding: NDArray[np.int64] = field(init=False)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    unknown: dict[int, tuple[int, int]] = field(default_factory=dict)
    copies: dict[bytes, list[Path]] = field(default_factory=dict)
    pairs: int = 0

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.num_classes + 1, np.int64)
        self.holding = np.zeros(self.num_classes, np.int64)

    def add(self, one: Examined) -> None:
        """Count a pair, or the one file of a pair that there is."""
        self.pairs += one.pair.picture is not None and (one.pair.label is not None or self.labels is None)
        if one.size is not None and one.pair.picture is not None:
            self.sizes[one.size] += 1
            self.kinds[one.kind] += 1
            self.copies.setdefault(one.digest, []).append(one.pair.picture)
        if one.counts is not None:
            self.pixels += one.counts
            self.holding += one.counts[:-1] > 0
        for value, number in one.unknown.items():
            labels, pixels = self.unknown.get(value, (0, 0))
            self.unknown[value] = (labels + 1, pixels + number)

    @property
    def ignored(self) -> float:
        """Share of ignored pixels among those with a known label, 0…1; 0 where there are none."""
        return float(self.pixels[-1] / max(self.pixels.sum(), 1))

    @property
    def shares(self) -> NDArray[np.float64]:
        """(K,) shares of the pixels that count, 0…1."""
        return self.pixels[:-1] / max(self.pixels[:-1].sum(), 1)

    def extents(self) -> dict[str, dict[str, float]]:
        """Least, median and most of width and height in pixels, and of megapixels; nothing without a picture."""
        if not self.sizes:
            return {}
        sizes = np.array(list(self.sizes.elements()), np.float64)  # (N, 2)
        columns = {"width": sizes[:, 0], "height": sizes[:, 1], "megapixels": sizes.prod(1) / 1e6}
        return {
            name: {"min": float(values.min()), "median": float(np.median(values)), "max": float(values.max())}
            for name, values in columns.items()
        }

    def plain(self) -> dict[str, Any]:
        """All of it but the copies, as data for JSON."""
        sizes = [{"width": w, "height": h, "pictures": n} for (w, h), n in self.sizes.most_common()]
        unknown = {str(v): {"labels": n, "pixels": p} for v, (n, p) in sorted(self.unknown.items())}
        return {
            "pictures": self.pictures,
            "labels": self.labels,
            "pairs": self.pairs,
            "pixels": int(self.pixels[:-1].sum()),
            "ignored_pixels": int(self.pixels[-1]),
            "ignored_share": self.ignored,
            "extents": self.extents(),
            "sizes": sizes,
            "kinds": dict(self.kinds.most_common()),
            "unknown_values": unknown,
        }
