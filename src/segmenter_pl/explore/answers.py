"""What the page asks for, and the answers: pictures, labels, probabilities, attention."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from segmenter_pl.explore.collection import Library, UnknownError
from segmenter_pl.explore.framed import framed
from segmenter_pl.explore.looker import Looker, same_classes
from segmenter_pl.explore.uploading import LIMIT, body_of, name_of
from segmenter_pl.pictures import RGB
from segmenter_pl.visualize import class_shares, save_label_png

BINARY = "application/octet-stream"


class Answers:
    """The endpoints. Plain methods run in threads of their own; models work one at a time (`Looker`).

    All but the first raise ValueErrors with a sentence for the page.
    """

    def __init__(self, lookers: Sequence[Looker], library: Library) -> None:
        self._lookers, self._library = list(lookers), library

    def about(self, request: Request) -> Response:
        """The models, and the limit for uploads."""
        models = [looker.about() for looker in self._lookers]
        return JSONResponse({"models": models, "same_classes": same_classes(self._lookers), "limit": LIMIT})

    def listed(self, request: Request) -> Response:
        """What there is to look at."""
        return JSONResponse(self._library.listed())

    async def add(self, request: Request) -> Response:
        """Take a picture in."""
        name = name_of(request.query_params.get("name", ""))
        data = await body_of(request, name)
        number = await run_in_threadpool(self._library.add, name, data)
        return JSONResponse({"id": number, "name": name, "video": False, "upload": True}, 201)

    def thumbnail(self, request: Request) -> Response:
        return Response(self._library.thumbnail(request.path_params["id"]), media_type="image/jpeg")

    def length(self, request: Request) -> Response:
        """Frames of a video, null where it does not tell, and how many there are per second."""
        frames, rate = self._library.item(request.path_params["id"]).length()
        return JSONResponse({"frames": frames, "rate": rate})

    def picture(self, request: Request) -> Response:
        """As the model gets it: upright, RGB."""
        jpeg = self._library.picture(request.path_params["id"], _number(request, "frame", 0))
        return Response(jpeg, media_type="image/jpeg")

    def labels(self, request: Request) -> Response:
        """Class ids (H, W), and the shares of the classes."""
        looker, key, rgb = self._asked(request)
        found = looker.segmented(key, rgb)
        labels = found.labels
        about = {
            "height": labels.shape[0],
            "width": labels.shape[1],
            "bytes": labels.itemsize,
            "seconds": found.seconds,
            "shares": class_shares(labels, len(looker.classes)),
        }
        return Response(framed(about, [labels]), media_type=BINARY)

    def label_png(self, request: Request) -> Response:
        """Class ids as a file to keep, as `segmenter predict` writes it."""
        looker, key, rgb = self._asked(request)
        number, frame = key
        item = self._library.item(number)
        stem = PurePosixPath(item.name).stem + (f"_{frame:06d}" if item.video else "")
        with TemporaryDirectory() as folder:
            path = Path(folder, "labels.png")
            save_label_png(looker.segmented(key, rgb).labels, path, looker.palette)
            data = path.read_bytes()
        named = f"attachment; filename*=UTF-8''{quote(f'{stem}_labels.png')}"
        return Response(data, media_type="image/png", headers={"Content-Disposition": named})

    def probabilities(self, request: Request) -> Response:
        """Of the classes, at a pixel."""
        looker, key, rgb = self._asked(request)
        return JSONResponse(looker.probabilities(key, rgb, _number(request, "x"), _number(request, "y")))

    def attention(self, request: Request) -> Response:
        """Maps (A, h, w) float32 of all layers in their order, of the patch at a pixel."""
        looker, key, rgb = self._asked(request)
        look, seen = looker.attention(key, rgb, _number(request, "x"), _number(request, "y"))
        about: dict[str, Any] = {
            "grid": seen.grid,
            "covers": [
                count * seen.patch_size / side for count, side in zip(seen.grid, seen.image.shape[-2:], strict=True)
            ],
            "patch": look.patch,
            "box": look.box,
        }
        return Response(framed(about, look.maps), media_type=BINARY)

    def _asked(self, request: Request) -> tuple[Looker, tuple[int, int], RGB]:
        """The model, the number of the picture and of its frame, and its pixels."""
        number, frame = request.path_params["id"], _number(request, "frame", 0)
        model = _number(request, "model", 0)
        if model >= len(self._lookers):
            raise UnknownError(f"there is no model {model}: {len(self._lookers)} were given")
        return self._lookers[model], (number, frame), self._library.rgb(number, frame)


def _number(request: Request, name: str, default: int | None = None) -> int:
    text = request.query_params.get(name, "" if default is None else str(default))
    if not (text.isdecimal() and len(text) < 10):
        raise ValueError(f"{name}={text[:20]}: give a whole number from 0")
    return int(text)
