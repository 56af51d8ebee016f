"""Any picture as RGB pixels, as a viewer shows it: files, Pillow's pictures and arrays, whatever their mode."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

RGB = NDArray[np.uint8]
Source = str | Path | Image.Image | np.ndarray

ORIENTATION = 0x0112  # EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LIMIT = "SEGMENTER_MAX_MEGAPIXELS"  # environment variable; without it Pillow's own limit holds, 179 megapixels


class PictureError(ValueError):
    """A picture that cannot be read, or cannot be segmented."""


class TooLargeError(PictureError):
    """A picture with more pixels than the limit. The message does not name the file."""


def most_pixels() -> float:
    """How many pixels a picture may have, for every reader; Pillow's own limit is set to it, it refuses twice that.

    Raises: ValueError for a SEGMENTER_MAX_MEGAPIXELS that is no number above 0.
    """
    text = os.environ.get(LIMIT)
    if text is not None:
        try:
            megapixels = float(text)
        except ValueError:
            megapixels = 0.0
        if not megapixels > 0:  # so that nan is none either
            raise ValueError(f"{LIMIT}={text}: give a number of megapixels above 0, or inf for no limit")
        Image.MAX_IMAGE_PIXELS = None if megapixels == float("inf") else megapixels * 1e6 / 2  # type: ignore[assignment]
    return float("inf") if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


@contextmanager
def without_limit() -> Iterator[None]:
    """Pictures of any size are read in the block, also by processes that begin in it."""
    before, pillows = os.environ.get(LIMIT), Image.MAX_IMAGE_PIXELS
    os.environ[LIMIT] = "inf"
    try:
        yield
    finally:
        os.environ.pop(LIMIT)
        os.environ |= {} if before is None else {LIMIT: before}
        Image.MAX_IMAGE_PIXELS = pillows


def refuse_beyond_limit(pixels: int) -> None:
    """Raises: TooLargeError for a picture of more pixels than `most_pixels`."""
    if pixels > (most := most_pixels()):
        raise TooLargeError(
            f"has {pixels / 1e6:.4g} megapixels, and {most / 1e6:.4g} are the limit: cut it into pieces; or, if you "
            f"trust it, raise the limit with {LIMIT}=NUMBER in the environment (segmenter predict: --any-size)"
        )


def quiet_pillow() -> None:
    """Pillow's warnings of odd tags and of more than half the limit, which name no file, are silent from now on.

    For good, because threads read pictures, and `warnings.catch_warnings` in several threads may undo the others' work.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def opened(source: Path | IO[bytes]) -> ImageFile.ImageFile:
    """A picture of which only the header is read so far, for `with`.

    Raises: TooLargeError; what Pillow raises for a file that is missing, damaged or no picture.
    """
    most_pixels()
    quiet_pillow()
    try:
        return Image.open(source)
    except Image.DecompressionBombError as error:
        if size := re.search(r"\d+", str(error)):
            refuse_beyond_limit(int(size[0]))
        raise


def read_rgb(picture: Source) -> RGB:
    """A picture as (H, W, 3) uint8 RGB.

    Files and Pillow's pictures are rotated as their EXIF tag says; transparency is dropped (the colours below it stay),
    16-bit values lose their low byte, grey, palette and CMYK become RGB as Pillow converts them. Of several frames or
    pages the first counts.

    Args:
        picture: a path, a Pillow picture, or an array: (H, W) grey, (H, W, 1 | 2 | 3 | 4) grey, grey with alpha, RGB,
            RGBA; uint8, uint16 or bool.

    Raises: PictureError for a file that is missing, damaged, beyond the limit or no picture, and for arrays of another
        shape or type.
    """
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    most_pixels()  # a wrong limit is no fault of the file
    if not isinstance(picture, (str, Path, Image.Image)):
        raise PictureError(
            f"a {type(picture).__name__} is no picture: give a path, a Pillow picture or an array (H, W, 3) of uint8; "
            "tensors go to segmenter_pl.predict_labels"
        )
    quiet_pillow()
    return _from_pillow(picture) if isinstance(picture, Image.Image) else _from_file(Path(picture))


def _from_file(path: Path) -> RGB:
    try:
        with opened(path) as file:
            return _from_pillow(file)
    except PictureError as error:
        raise PictureError(f"{path} {error}") from error
    except MemoryError:
        raise
    # Pillow's readers answer damaged bytes with almost any exception: OSError, SyntaxError, ValueError, struct.error, …
    except Exception as error:
        raise PictureError(f"{path} {_ailment(path, error)}") from error


def _from_pillow(picture: Image.Image) -> RGB:
    picture.load()  # turns a TIFF, which then has no tag any more
    turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
    if picture.mode.startswith("I"):  # Pillow's conversion would clip 16-bit values instead of scaling them
        rgb = _from_array(_sixteen_bits(np.asarray(picture)))
        picture = Image.fromarray(rgb)
    elif picture.mode == "F":
        raise PictureError("holds floating-point values, of which nobody knows the range: save it with 8 or 16 bits")
    elif picture.mode in ("La", "RGBa"):  # colours multiplied by alpha: undone first
        picture = picture.convert(picture.mode.upper())
    picture = picture.convert("RGB")
    return np.array(picture if turn is None else picture.transpose(turn))


def _sixteen_bits(values: np.ndarray) -> np.ndarray:
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= 65535:
        raise PictureError(f"holds values from {values.min()} to {values.max()}: save it with 8 or 16 bits")
    # Pillow holds 8-bit values as "I" too; a 16-bit picture that stays below 256 is black either way.
    return values.astype(np.uint16 if values.dtype.itemsize == 2 or values.max() > 255 else np.uint8)


def _from_array(array: np.ndarray) -> RGB:
    kind = f"an array of shape {array.shape} and type {array.dtype}"
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels > 4 or not array.size:
        raise PictureError(f"{kind} is no picture: give (H, W) or (H, W, 3), channels last")
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)  # as OpenCV and Pillow read 16-bit colours
    elif array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif array.dtype != np.uint8:
        raise PictureError(f"{kind}: give uint8 values 0…255, e.g. (255 * picture).round().astype(numpy.uint8)")
    array = array[..., None] if array.ndim == 2 else array
    if channels < 3:
        return np.repeat(array[..., :1], 3, axis=-1)
    return np.array(array[..., :3], order="C")  # torch takes neither read-only arrays nor mirrored ones


def _ailment(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, (IsADirectoryError, PermissionError)):
        return f"cannot be read ({error.strerror})"
    if isinstance(error, Image.UnidentifiedImageError):
        return "is no picture, or of a kind that Pillow cannot read" if path.stat().st_size else "is empty (0 bytes)"
    return f"is damaged ({error}): copy or download it again"
