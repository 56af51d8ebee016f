"""Whether pictures can be imported, from their names and first bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from segmenter_pl.data.pairs import SUFFIXES, tiff_problem
from segmenter_pl.pictures import ORIENTATION, TooLargeError, opened
from segmenter_pl.prepare.importing import Import, Pair, Size, in_threads

WAY_OUT = "only 8-bit RGB or grey pictures are read; choose three channels and scale them to 0…255"
ALPHA = "an alpha channel, which is dropped"
TURNED = "an EXIF rotation, which is applied: labels must fit the turned picture"


@dataclass(frozen=True)
class Look:
    """What a picture is: its size as it is read, or why it cannot be; ALPHA, TURNED where it has these."""

    size: Size = (0, 0)
    problem: str = ""
    remarks: tuple[str, ...] = ()


def check_pictures(found: Import) -> dict[str, list[Size]]:
    """Look at the pictures of every split, and add to `problems` and `notes`.

    Returns: (width, height) by split.
    """
    sizes = {}
    for split, pairs in found.pairs.items():
        found.problems += [f"split {split} has no pictures"] * (not pairs) + _names(pairs)
        looks = list(in_threads(_look, pairs, f"checking {split}"))
        for pair, look in zip(pairs, looks, strict=True):
            found.problems += [f"{pair.where}: {look.problem}"] if look.problem else []
        for remark in (ALPHA, TURNED):
            if count := sum(remark in look.remarks for look in looks):
                found.notes.append(f"{split}: {count} of {len(pairs)} pictures have {remark}")
        sizes[split] = [look.size for look in looks]
    return sizes


def _names(pairs: Sequence[Pair]) -> list[str]:
    """Problems with names in the new folder."""
    problems: list[str] = []
    owners: dict[PurePosixPath, Pair] = {}
    for pair in pairs:
        path = PurePosixPath(pair.name)
        first = owners.setdefault(path.with_suffix(""), pair)
        if first is not pair:
            problems.append(f"{pair.where}: {pair.name} would share its label with {first.name} of {first.where}")
        if path.suffix.lower() not in SUFFIXES:
            problems.append(f"{pair.where}: {pair.name} is none of {', '.join(SUFFIXES)}: convert it")
        elif path.name.startswith("."):
            problems.append(f"{pair.where}: {pair.name} is a hidden file: rename it")
    return problems


def _look(pair: Pair) -> Look:
    path = pair.picture
    if not path.is_file():
        return Look(problem=f"the picture {path} is missing")
    try:
        if problem := tiff_problem(path, bits=8):
            return Look(problem=f"the picture {path} {problem}: {WAY_OUT}")
        with opened(path) as file:
            mode, size, alpha = file.mode, file.size, file.has_transparency_data
            turn = 1 if file.format == "TIFF" else file.getexif().get(ORIENTATION, 1)
    except TooLargeError as error:
        return Look(problem=f"the picture {path} {error}")
    except Exception as error:  # Pillow answers damaged bytes with almost any exception
        return Look(problem=f"the picture {path} cannot be read ({error}): copy it again, or leave it out")
    if mode.startswith(("I", "F")):
        return Look(problem=f"the picture {path} has more than 8 bits per pixel (mode {mode}): {WAY_OUT}")
    if turn in (5, 6, 7, 8):
        size = size[::-1]
    if pair.size not in (None, size):
        stated = "x".join(map(str, pair.size or ()))
        turned = ", EXIF rotation applied" if turn != 1 else ""
        return Look(problem=f"the picture {path} is {size[0]}x{size[1]} pixels{turned}, its JSON says {stated}")
    return Look(size, remarks=(ALPHA,) * alpha + (TURNED,) * (turn in range(2, 9)))
