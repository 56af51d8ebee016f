"""Who may ask the server, and what its pages may do.

The server listens on this machine only; but every site that is open in the same browser could ask it. So it answers to
its own page only: by the name that the browser gave (a site may let its own name lead here), and by where the request
comes from.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")
SENT = {
    # Nothing but what this server sends: no script, style, font or picture of any other place, no frame, no form.
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests of other sites, and adds to every response what the browser should heed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        assert scope["type"] == "http"

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SENT)
            await send(message)

        refusal = refused(Headers(scope=scope), scope["path"])
        app = self._app if refusal is None else JSONResponse({"error": refusal}, 403)
        await app(scope, receive, guarded)


def refused(headers: Headers, path: str) -> str | None:
    """Why a request is not answered; None where it is."""
    host = headers.get("host", "")
    if host.partition(":")[0].lower() not in HOSTS:
        return f"this server is {HOSTS[0]}, and not {host[:100]}"
    if headers.get("origin", f"http://{host}") != f"http://{host}":
        return "requests of other sites are not answered"
    elsewhere = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    if elsewhere and path != "/":  # a link may lead to the page
        return "requests of other sites are not answered"
    return None
