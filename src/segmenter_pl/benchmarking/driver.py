"""All measurements of several models, one process after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from segmenter_pl.benchmarking.measuring import TRAINING
from segmenter_pl.benchmarking.plan import Variant
from segmenter_pl.benchmarking.processes import Fitting, Job, TooLarge, ceiling_tflops, run
from segmenter_pl.benchmarking.table import Speed

MOST = {"cpu": 8}  # pictures at once unless told: on a CPU they gain nothing
MOST_ELSEWHERE = 1024


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        modes, seconds, threads, memory_gb: as of `processes.Job`.
        batches: sizes; empty for 1, 2, 4 … up to `max_batch`, None for what suits the device.
    """

    modes: Sequence[str]
    batches: Sequence[int] = ()
    max_batch: int | None = None
    seconds: float = 2.0
    threads: int | None = None
    memory_gb: float | None = None

    def sizes(self, device: str) -> list[int]:
        """Batch sizes for a kind of device, ascending."""
        if self.batches:
            return sorted(set(self.batches))
        most = self.max_batch or MOST.get(device, MOST_ELSEWHERE)
        return [2**i for i in range(most.bit_length())]


@dataclass(frozen=True)
class Misfit:
    """The first batch size of a model that does not fit."""

    variant: Variant
    mode: str
    too_large: TooLarge


def sizes_of(variant: Variant, mode: str, effort: Effort) -> list[int]:
    """Batch sizes of a model in a mode, ascending. Raises ValueError where it can be measured with none of them."""
    sizes = effort.sizes(variant.device)
    possible = [size for size in sizes if mode != TRAINING or size >= variant.least_batch]
    if not possible:
        raise ValueError(
            f"--batch {sizes[-1]}: {' '.join(variant.words)} is trained with {variant.least_batch} or more"
        )
    return possible


def total(variants: Sequence[Variant], effort: Effort) -> int:
    """Number of measurements if everything fits. Raises: as `sizes_of`."""
    return sum(len(sizes_of(one, mode, effort)) for one in variants for mode in effort.modes)


def measured(variants: Sequence[Variant], effort: Effort, advance: Callable[[int], None]) -> Iterator[Speed | Misfit]:
    """Every model in every mode over ascending batch sizes, until one does not fit.

    `advance` is told how many of `total` are done with. Raises as `processes.run`.
    """
    ceilings: dict[str, float] = {}
    for variant in variants:
        precision = str(variant.settings["trainer"]["precision"])
        for mode in effort.modes:
            sizes = sizes_of(variant, mode, effort)
            if precision not in ceilings:
                ceilings[precision] = ceiling_tflops(_job(variant, mode, sizes, effort))
            done = 0
            for found in _ascending(variant, mode, sizes, effort):
                if isinstance(found, TooLarge):
                    yield Misfit(variant, mode, found)
                else:
                    yield Speed(variant, mode, found.batch, found.measured, found.device, ceilings[precision])
                    done += 1
                    advance(1)
            advance(len(sizes) - done)


def _ascending(variant: Variant, mode: str, sizes: Sequence[int], effort: Effort) -> Iterator[Fitting | TooLarge]:
    """On a CPU a process for each size, since its memory is only told of a fresh one; else one for all."""
    for some in [[one] for one in sizes] if variant.device == "cpu" else [sizes]:
        for found in run(_job(variant, mode, some, effort)):
            yield found
            if isinstance(found, TooLarge):
                return


def _job(variant: Variant, mode: str, sizes: Sequence[int], effort: Effort) -> Job:
    return Job(variant.settings, variant.num_classes, mode, sizes, effort.seconds, effort.threads, effort.memory_gb)
