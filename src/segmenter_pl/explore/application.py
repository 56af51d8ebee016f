"""The web application: addresses, the page's files, and errors as sentences."""

from collections.abc import Sequence
from importlib import resources
from pathlib import PurePath

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from segmenter_pl.explore.answers import Answers
from segmenter_pl.explore.collection import Library, UnknownError
from segmenter_pl.explore.guarding import Guard
from segmenter_pl.explore.looker import Looker
from segmenter_pl.explore.uploading import TooMuchError

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
STATUSES = ((UnknownError, 404), (TooMuchError, 413), (ValueError, 400), (MemoryError, 507))


def application(lookers: Sequence[Looker], library: Library) -> Starlette:
    """The page for one checkpoint, or for two that are compared."""
    answers = Answers(lookers, library)
    page = page_files()

    def sent(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        return page.get(name) or JSONResponse({"error": f"the page has no {name}"}, 404)

    routes = [
        Route("/", sent),
        Route("/about", answers.about),
        Route("/pictures", answers.listed),
        Route("/pictures", answers.add, methods=["PUT"]),
        Route("/pictures/{id:int}/thumbnail", answers.thumbnail),
        Route("/pictures/{id:int}/length", answers.length),
        Route("/pictures/{id:int}/picture", answers.picture),
        Route("/pictures/{id:int}/labels", answers.labels),
        Route("/pictures/{id:int}/labels.png", answers.label_png),
        Route("/pictures/{id:int}/probabilities", answers.probabilities),
        Route("/pictures/{id:int}/attention", answers.attention),
        Route("/page/{name}", sent),
    ]
    handlers = {kind: _told for kind, _ in STATUSES}
    return Starlette(routes=routes, middleware=[Middleware(Guard)], exception_handlers=handlers)


def page_files() -> dict[str, Response]:
    """The page's files by name, ready to be sent: no request reaches the disk."""
    files = resources.files("segmenter_pl.explore.page").iterdir()
    wanted = [file for file in files if PurePath(file.name).suffix in KINDS]
    return {file.name: Response(file.read_bytes(), media_type=KINDS[PurePath(file.name).suffix]) for file in wanted}


def _told(request: Request, error: Exception) -> Response:
    """An error as a sentence; what is no error of ours is raised further, and told in the terminal."""
    status = next(status for kind, status in STATUSES if isinstance(error, kind))
    # Of a body that was not read: nothing more is taken from this connection.
    headers = {"Connection": "close"} if status == 413 else None
    return JSONResponse({"error": str(error) or "the memory does not suffice"}, status, headers)
