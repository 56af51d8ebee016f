"""The server of `segmenter explore` in a thread, and questions to it as the page asks them."""

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import requests

from segmenter_pl import Predictor, load_segmenter
from segmenter_pl.explore.application import application
from segmenter_pl.explore.collection import Library
from segmenter_pl.explore.items import Film, FrameFolder, Item, Still
from segmenter_pl.explore.looker import Looker
from segmenter_pl.explore.serving import address, listening, server
from segmenter_pl.video import VideoSink
from tests.test_predict_command import save
from tests.test_predictor import blocks

FRAMES = 6


def looker(path: Path, name: str = "best.ckpt") -> Looker:
    return Looker(name, path, Predictor(load_segmenter(path), device="cpu"))


def samples(folder: Path) -> list[Item]:
    """Two pictures of 70 by 45 pixels, a video of six frames at ten a second, and a folder with the same frames."""
    paths = [save(folder / f"{name}.png", seed) for seed, name in enumerate(("first", "second"))]
    frames = [save(folder / f"frames/{seed}.png", seed) for seed in range(FRAMES)]
    with VideoSink(folder / "drive.mp4", 10) as sink:
        for seed in range(FRAMES):
            sink.write(blocks(48, 64, seed))
    stills = [Still(path.name, path) for path in paths]
    return [*stills, Film("drive.mp4", folder / "drive.mp4", 25), FrameFolder("frames", frames, 12)]


@contextmanager
def serving(lookers: Sequence[Looker], items: Sequence[Item]) -> Iterator[str]:
    """The address, with a slash at its end, while the block runs."""
    library = Library(items)
    with listening(0) as listener:
        running = server(application(lookers, library))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield address(listener)
        finally:
            running.should_exit = True
            thread.join()
            library.close()


def get(url: str) -> requests.Response:
    response = requests.get(url, timeout=60)
    assert response.status_code == 200, response.text
    return response


def framed(url: str) -> tuple[dict[str, Any], bytes]:
    """Description and numbers of an answer."""
    body = get(url).content
    length = int.from_bytes(body[:4], "little")
    assert length % 4 == 0
    return json.loads(body[4 : 4 + length]), body[4 + length :]


def labels(url: str) -> np.ndarray:
    about, numbers = framed(url)
    kind = {1: np.uint8, 2: np.int16}[about["bytes"]]
    return np.frombuffer(numbers, kind).reshape(about["height"], about["width"])


def sentence(response: requests.Response, status: int) -> str:
    """Of an answer that refuses."""
    assert response.status_code == status, response.text
    return response.json()["error"]


def put(site: str, name: str, data: Any) -> requests.Response:
    return requests.put(f"{site}pictures", params={"name": name}, data=data, timeout=60)


def raw(site: str, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """An answer to a request whose headers are sent, and nothing else."""
    connection = http.client.HTTPConnection(site.removeprefix("http://").rstrip("/"), timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    response.read()
    connection.close()
    return response
