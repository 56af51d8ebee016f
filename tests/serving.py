"""A web server with the faults of real ones, in a thread of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass
class Site:
    """What a server has, how it behaves, and what it was asked.

    Attributes:
        files: content by path, with the query if there is one. tags: ETag by path; none is sent without.
        cuts: after how many bytes of a body the connection is cut, response by response; then never.
        ranges: whether parts are given. sized: whether the length is told. statuses: sent first, instead of files.
        heed: whether If-Range is heeded. password: what the login form takes; "" for files without a login.
        moved: where the login form leads by a redirect that repeats the form (307); "" for nowhere.
        stall: set to go on, where a response stops halfway.
        requests, ranges_asked, sent: paths, Range headers and bytes of bodies, response by response.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    sized: bool = True
    heed: bool = True
    statuses: list[int] = field(default_factory=list)
    password: str = ""
    moved: str = ""
    stall: threading.Event | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    ranges_asked: list[str | None] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    address: str = ""


LOGIN_PAGE = b'<!DOCTYPE html><form method="post"><input name="username"><input name="password"></form>'
WELCOME = b"<!DOCTYPE html><p>Welcome</p>"


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            site.requests.append(f"POST {self.path}")
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if site.moved:
                self.send_response(307)
                self.send_header("Location", site.moved)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            right = form.get("password") == [site.password] and form.get("username") == ["somebody"]
            self._page(WELCOME if right else LOGIN_PAGE, "secret=42; Path=/" if right else None)

        def do_GET(self) -> None:
            site.requests.append(self.path)
            if site.statuses:
                self.send_error(site.statuses.pop(0))
            elif site.password and "secret=42" not in self.headers.get("Cookie", ""):
                self._page(LOGIN_PAGE)
            elif self.path in site.files:
                self._file(site.files[self.path])
            else:
                self.send_error(404)

        def _page(self, page: bytes, cookie: str | None = None) -> None:
            self.send_response(200)
            if cookie:
                self.send_header("Set-Cookie", cookie)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def _file(self, content: bytes) -> None:
            asked, tag = self.headers.get("Range"), site.tags.get(self.path)
            site.ranges_asked.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges else 0
            if site.heed and self.headers.get("If-Range", tag) != tag:
                start = 0
            if start > len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if tag:
                self.send_header("ETag", tag)
            if site.sized:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            body = body[: site.cuts.pop(0)] if site.cuts else body
            site.sent.append(len(body))
            if site.stall:
                self.wfile.write(body[: len(body) // 2])
                site.stalled.set()
                site.stall.wait(60)
            else:
                self.wfile.write(body)

    return Handler


@contextmanager
def serving(**settings: Any) -> Iterator[Site]:
    """A site on this machine while the block runs; `address` is filled in."""
    site = Site(**settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield site
    finally:
        if site.stall:
            site.stall.set()
        server.shutdown()
        server.server_close()
        thread.join()
