"""The server: on this machine only, until Ctrl-C."""

import errno
import os
import socket
import sys
import threading
import webbrowser

import uvicorn
from starlette.applications import Starlette

HOST = "127.0.0.1"


def listening(port: int) -> socket.socket:
    """A socket on this machine's own address; port 0 takes any that is free. Raises ValueError for one that is not."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left may be taken again
    try:
        listener.bind((HOST, port))
        listener.listen()  # from now on a browser may ask; the server answers when it runs
    except OSError as error:
        listener.close()
        reason = {errno.EADDRINUSE: "is in use", errno.EACCES: "is not for everybody"}.get(error.errno or 0, str(error))
        raise ValueError(f"--port {port} {reason}: give another one, or leave it out") from error
    return listener


def address(listener: socket.socket) -> str:
    """For a browser."""
    return f"http://{HOST}:{listener.getsockname()[1]}/"


def server(application: Starlette) -> uvicorn.Server:
    """To be run with a listening socket, until SIGINT, which becomes a KeyboardInterrupt, or SIGTERM."""
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def open_browser(url: str) -> None:
    """Show the page in the user's browser, where there is a screen; one in the terminal would take that over."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
