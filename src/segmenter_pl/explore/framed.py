"""Numbers with a description, as one body: the length of the JSON (4 bytes, little endian), the JSON, the numbers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def framed(about: Mapping[str, Any], arrays: Sequence[NDArray]) -> bytes:
    """The JSON is filled up with spaces, so that the numbers begin at a multiple of 4 bytes, as browsers want it."""
    head = json.dumps(about).encode()
    head += b" " * (-len(head) % 4)
    numbers = (np.ascontiguousarray(one).astype(one.dtype.newbyteorder("<"), copy=False) for one in arrays)
    return b"".join([len(head).to_bytes(4, "little"), head, *(one.tobytes() for one in numbers)])
