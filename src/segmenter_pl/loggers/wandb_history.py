"""Reads the rows that Weights & Biases keeps on disk.

A `.wandb` file is a header of 7 bytes and then a log in LevelDB's format
(https://github.com/google/leveldb/blob/main/doc/log_format.md) whose records are messages of W&B's own protocol:

    file   = ":W&B" 0xBEE1 version, then blocks of 32 KiB (the header is part of the first one)
    chunk  = checksum (4 bytes), length (2), kind (1), payload; none starts in the last 6 bytes of a block
    record = the payload of a chunk of kind FULL, or of FIRST, MIDDLE…, LAST put together
"""

import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER = struct.pack("<4sH", b":W&B", 0xBEE1)
BLOCK = 32 * 1024
CHUNK = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class WandbRun:
    """What a `.wandb` file says of its run.

    Attributes:
        config: nested, as it was logged. summary: the last values. artifacts: names and the files in them.
    """

    id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[str]] = field(default_factory=dict)


def read_wandb_run(path: str | Path) -> WandbRun:
    """The run's description, settings, summary and artifacts in one `run-<id>.wandb`, up to the first damage.

    Raises:
        ValueError: the file begins like none of W&B's.
    """
    run = WandbRun()
    for record in _all(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            one = record.run
            run.id, run.project, run.name = one.run_id, one.project, one.display_name
            run.group, run.job_type, run.tags = one.run_group, one.job_type, list(one.tags)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "artifact":
            run.artifacts[record.artifact.name] = [entry.path for entry in record.artifact.manifest.contents]
    return run


def read_wandb_history(path: str | Path) -> list[dict[str, Any]]:
    """The rows of one `run-<id>.wandb` in the order they were logged, up to the first damage.

    Each has `_step`, `_timestamp`, `_runtime` and the logged keys; a picture is a dictionary with its `path` below the
    run's `files`. A process that was killed leaves a file without an end, so a torn tail is no error.

    Raises:
        ValueError: the file begins like none of W&B's.
    """
    return [_row(record.history) for record in _all(path) if record.HasField("history")]


def last_wandb_step(folder: Path, run_id: str) -> int:
    """The last step that the files of a run in a run directory hold; 0 if none does."""
    last = 0
    for path in folder.glob(f"wandb/*run-*/run-{run_id}.wandb"):  # the link is called latest-run
        with suppress(Exception):  # a file that cannot be read counts as none: better a row twice than none
            last = max([last, *(row["_step"] for row in read_wandb_history(path))])
    return last


def _all(path: str | Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined] # made at run time; half a second

    data = Path(path).read_bytes()
    if data[: len(HEADER)] != HEADER:
        raise ValueError(f"{path} is no .wandb file: it begins with {data[:7]!r}")
    yield from map(Record.FromString, _records(data))


def _records(data: bytes) -> Iterator[bytes]:
    position, record = len(HEADER) + 1, b""
    while position + CHUNK.size <= len(data):
        if (room := BLOCK - position % BLOCK) < CHUNK.size:
            position += room
            continue
        checksum, length, kind = CHUNK.unpack_from(data, position)
        position += CHUNK.size
        payload = data[position : position + length]
        position += length
        if kind not in (FULL, FIRST, MIDDLE, LAST) or zlib.crc32(bytes([kind]) + payload) != checksum:
            return  # torn: too short, or zeros that a crash of the machine left
        record = payload if kind in (FULL, FIRST) else record + payload
        if kind in (FULL, LAST):
            yield record


def _row(history: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"_step": history.step.num}
    _update(row, history.item)
    return row


def _update(tree: dict[str, Any], items: Any) -> None:
    for item in items:
        *outer, name = item.nested_key or [item.key]
        place = tree
        for part in outer:
            place = place.setdefault(part, {})
        place[name] = _value(item)


def _value(item: Any) -> Any:
    """W&B writes JSON, and from 0.31 on, if told so, typed values."""
    if item.value_json:
        return json.loads(item.value_json)
    if "value" not in item.DESCRIPTOR.oneofs_by_name:
        return None
    kind = item.WhichOneof("value")
    return None if kind in (None, "none") else json.loads(item.json) if kind == "json" else getattr(item, kind)
