"""Which file each result of `segmenter predict` goes to, decided before work starts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from segmenter_pl.commands.folders import PICTURES
from segmenter_pl.commands.inputs import Job

SUFFIXES = (".png", ".jpg", ".npz", ".mp4", ".gif")  # of results
SINGLE = (".mp4", ".gif")  # -o with one of these is the file of one video
Plan = Sequence[tuple[Job, Mapping[str, Path]]]


def planned(jobs: Sequence[Job], inputs: Sequence[str], out: Path, overlay: str, probabilities: bool) -> Plan:
    """Each job with the paths of its results by kind: labels, overlays, probabilities.

    Args:
        inputs: as they were typed. out: the folder, or the file of a single video.
        overlay: suffix of overlays of pictures, with its dot. probabilities: whether they are written.

    Raises: ValueError: a result would replace an input, or `out` cannot hold them.
    """
    _require_place(out, jobs, inputs)
    if probabilities and any(job.video for job in jobs):
        raise ValueError("--save-probabilities is for pictures, and there is a video among the INPUTs: leave out one")
    names = result_names(jobs)
    plan = [(job, _paths(out, name, job.video, overlay, probabilities)) for job, name in zip(jobs, names, strict=True)]
    read = {path.resolve() for job in jobs for path in job.files()}
    for _, paths in plan:
        if replaced := next((path for path in paths.values() if path.resolve() in read), None):
            raise ValueError(f"-o {out}: the result {replaced} would replace an INPUT: give another folder")
    return plan


def _require_place(out: Path, jobs: Sequence[Job], inputs: Sequence[str]) -> None:
    suffix = out.suffix.lower()
    if out.is_dir():
        if same := next((text for text in inputs if Path(text).is_dir() and Path(text).samefile(out)), None):
            raise ValueError(f"-o {out} is the INPUT folder {same} itself: give another folder")
    elif suffix in SINGLE:
        if [job.video for job in jobs] not in ([], [True]):
            raise ValueError(
                f"-o {out} is the file of one video, and there are {len(jobs)} INPUTs or pictures: give a folder "
                "(for the frames of one video: --video)"
            )
    elif out.exists():
        raise ValueError(f"-o {out} is a file: give a folder")
    elif suffix in PICTURES | {".npz"}:
        raise ValueError(f"-o {out}: several files are written for a picture: give a folder")


def _paths(out: Path, name: Path, video: bool, overlay: str, probabilities: bool) -> dict[str, Path]:
    if video:
        single = out.suffix.lower() in SINGLE and not out.is_dir()
        return {"overlays": out if single else out / "overlays" / f"{name}.mp4"}
    paths = {"labels": out / "labels" / f"{name}.png", "overlays": out / "overlays" / f"{name}{overlay}"}
    return paths | ({"probabilities": out / "probabilities" / f"{name}.npz"} if probabilities else {})


def result_names(jobs: Sequence[Job]) -> list[Path]:
    """One path per job, without the result's suffix; no two are equal, also where capitals do not count.

    Jobs that would have the same name keep their suffix in it (a.jpg.png), then their folder, then their whole path,
    and then get a number: streams of one name, and files that differ by capitals alone. So do jobs whose result would
    have the name of a folder of results.
    """
    choices, level = [job.names() for job in jobs], [0] * len(jobs)
    while True:
        names = [_choice(options, n, i) for i, (options, n) in enumerate(zip(choices, level, strict=True))]
        keys = [str(name).casefold() for name in names]
        count = Counter(keys)
        folders = {str(folder).casefold() for name in names for folder in name.parents}
        clashing = [
            i for i, key in enumerate(keys) if count[key] > 1 or any(key + suffix in folders for suffix in SUFFIXES)
        ]
        if not clashing:
            return names
        for i in clashing:
            level[i] += 1


def _choice(options: Sequence[Path], level: int, number: int) -> Path:
    """The option of that level; beyond the last one its number is added."""
    last = options[min(level, len(options) - 1)]
    return last.with_name(last.name + f"-{number}" * max(level - len(options) + 1, 0))
