"""Pictures that the page hands over: what is too large is refused before it lies in memory."""

from starlette.requests import ClientDisconnect, Request

from segmenter_pl.pictures import PictureError

LIMIT = 20_000_000  # bytes of a file
LONGEST_NAME = 120


class TooMuchError(PictureError):
    """More bytes than the limit."""


async def body_of(request: Request, name: str) -> bytes:
    """The bytes of an upload. Raises TooMuchError as soon as it is known, PictureError where it is none or cut off."""
    told = request.headers.get("content-length", "0")
    pieces, size = [], int(told) if told.isdecimal() else 0
    _require_little(name, size)
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            _require_little(name, size)  # also without a length, or with one that lies
            pieces.append(piece)
    except ClientDisconnect as error:
        raise PictureError(f"{name} did not come to its end") from error
    if not size:
        raise PictureError(f"{name} is empty (0 bytes)")
    return b"".join(pieces)


def _require_little(name: str, size: int) -> None:
    if size > LIMIT:
        raise TooMuchError(
            f"{name} has {size / 1e6:.0f} MB or more, and {LIMIT / 1e6:.0f} MB are the limit for what is dropped here: "
            "give it to the command, segmenter explore CKPT PICTURES"
        )


def name_of(text: str) -> str:
    """The last part of a file's name, to be shown: nothing is read or written by it."""
    shown = "".join(c for c in text.replace("\\", "/").rpartition("/")[2] if c.isprintable())
    return shown[-LONGEST_NAME:] or "picture"
