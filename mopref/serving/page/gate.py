"""What stands before the page: which of Gradio's doors are open, who asks, and what a browser may load.

Gradio's application has doors that the page does not use: uploads, files, a proxy, calls by name. They stay shut.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mopref.serving.forms import error_body

__all__ = ["PageGate", "is_of_the_page"]

_HEARTBEAT = "/gradio_api/heartbeat/"
_API = ("/v1/", "/health", "/openapi.json")
_OPEN = {
    "GET": re.compile(
        r"/|/config|/theme\.css|/manifest\.json|/favicon\.ico|/(assets|static|svelte)/[\w./-]+"
        r"|/gradio_api/(queue/data|startup-events|heartbeat/\w+)"
    ),
    "POST": re.compile(r"/gradio_api/(queue/join|cancel|reset)"),
}
# Nothing is loaded from another origin, and no other page may frame this one. Gradio compiles its templates.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def is_of_the_page(path: str) -> bool:
    """Whether a path is the page's, and not the API's.

    Example:
        >>> is_of_the_page("/"), is_of_the_page("/v1/models")
        (True, False)
    """
    return not path.startswith(_API)


class PageGate:
    """An ASGI application around one with a page: the API goes through as it is, and of the page what it needs.

    Args:
        app: the application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._beating: set[asyncio.Event] = set()

    def let_go(self) -> None:
        """End the connections by which Gradio sees that a page is still open: a server that ends waits for none."""
        for each in self._beating:
            each.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer what is refused, and hand on all else."""
        if scope["type"] != "http" or not is_of_the_page(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = _refusal(scope["method"], scope["path"], headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                # Gradio lets pages of other local ports read its answers.
                kept = [each for each in message["headers"] if not each[0].lower().startswith(b"access-control")]
                message = {**message, "headers": [*kept, *_HEADERS]}
            await send(message)

        if not scope["path"].startswith(_HEARTBEAT):
            await self._app(scope, receive, guarded)
            return
        ended = asyncio.Event()
        self._beating.add(ended)
        try:
            await self._app(scope, _until(ended, receive), guarded)
        finally:
            self._beating.discard(ended)


def _until(ended: asyncio.Event, receive: Any) -> Any:
    """What receives, and is told that the client left where ``ended`` is set."""

    async def either() -> Any:
        both = [asyncio.ensure_future(receive()), asyncio.ensure_future(ended.wait())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return both[0].result() if both[0].done() else {"type": "http.disconnect"}
        finally:
            for each in both:
                each.cancel()

    return either


def _refusal(method: str, path: str, headers: Mapping[bytes, bytes]) -> Any:
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc != headers.get(b"host", b"").decode("latin-1"):
        return _refused(403, "the page is asked by itself only, and not by a page of another origin.", "origin")
    known = _OPEN.get("GET" if method == "HEAD" else method)
    if known is None or not known.fullmatch(path) or ".." in path:
        return _refused(404, "there is nothing here: the page is at /, and the API at /v1.", "not_found_error")
    return None


def _refused(status: int, sentence: str, kind: str) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(error_body(sentence, kind), status_code=status)
