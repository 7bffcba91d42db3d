"""What stands before the application: the host that was asked, the token, and the size of a request."""

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from typing import Any

from mopref.serving.forms import error_body

__all__ = ["Guard"]

# The parts of ASGI: a message, and what sends or receives one.
_OPEN_PATHS = ("/health",)


class Guard:
    """An ASGI application around another one, which sees only requests that are whole, of bounded size, and allowed.

    It reads the body, and hands it on in one piece. A page of a stranger's in a browser cannot reach a server on
    loopback: one whose name was turned to it asks for another host, and no header allows it to read an answer.

    Args:
        app: the application.
        token: what a request must bear (``Authorization: Bearer …``); ``None`` for none. Compared in constant time.
        hosts: the names by which the server may be asked; ``None`` for any.
        body_bytes: the most bytes of a body.
        body_seconds: the time in which it must have come.
        for_browsers: which paths are a page's. There a browser asks for the token as a password, of any user (Basic).
    """

    def __init__(
        self,
        app: Any,
        token: str | None = None,
        hosts: frozenset[str] | None = None,
        body_bytes: int = 1 << 20,
        body_seconds: float = 10.0,
        for_browsers: Callable[[str], bool] | None = None,
    ) -> None:
        self._for_browsers = for_browsers or (lambda _: False)
        self._app, self._hosts = app, hosts
        self._token = None if token is None else token.encode()
        self._body_bytes, self._body_seconds = body_bytes, body_seconds

    def let_go(self) -> None:
        """End what is open for as long as a page is."""
        getattr(self._app, "let_go", lambda: None)()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer what is refused, and hand on all else."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        body = b""
        if refusal is None:
            body, refusal = await self._body(headers, receive)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return parts.pop() if parts else await receive()

        await self._app(scope, again, send)

    def _refusal(self, path: str, headers: Mapping[bytes, bytes]) -> Any:
        if self._hosts is not None and _host(headers.get(b"host", b"")) not in self._hosts:
            return _refused(
                421, "this server is asked by the address that it listens at, and by no other name.", "host"
            )
        if self._token is None or path in _OPEN_PATHS:
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        of_page = self._for_browsers(path)
        if of_page and scheme.lower() == b"basic":
            given = _password(given)
        elif scheme.lower() != b"bearer":
            given = b""
        if hmac.compare_digest(given.strip(), self._token):
            return None
        sentence = "this server asks for a token: send the header 'Authorization: Bearer TOKEN' with the right one."
        if of_page:
            sentence = "this page asks for the server's token as the password; the name of the user does not count."
        ways = 'Basic realm="mopref", charset="UTF-8"' if of_page else "Bearer"
        return _refused(401, sentence, "authentication", {"WWW-Authenticate": ways})

    async def _body(self, headers: Mapping[bytes, bytes], receive: Any) -> tuple[bytes, Any]:
        """The body, or else a refusal."""
        sentence = f"a request has {self._body_bytes} bytes at most: shorten its messages."
        told = headers.get(b"content-length", b"0")
        # What is too long by its own word is not read at all.
        if told.isdigit() and len(told) < 20 and int(told) > self._body_bytes:
            return b"", _refused(413, sentence, "too_large", {"Connection": "close"})
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return b"", _nothing
                    body += message.get("body", b"")
                    if len(body) > self._body_bytes:
                        return b"", _refused(413, sentence, "too_large", {"Connection": "close"})
                    if not message.get("more_body", False):
                        return bytes(body), None
        except TimeoutError:
            sentence = f"the request was not whole after {self._body_seconds:g} s: send it in one go."
            return b"", _refused(408, sentence, "timeout", {"Connection": "close"})


def _host(header: bytes) -> str:
    r"""The name in a header of a host, without its port.

    Example:
        >>> _host(b"[::1]:8000"), _host(b"LocalHost:80"), _host(b"127.0.0.1")
        ('::1', 'localhost', '127.0.0.1')
    """
    text = header.decode("latin-1").strip().lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


def _password(given: bytes) -> bytes:
    """The password in what a browser sends; nothing where it is malformed.

    Example:
        >>> _password(b"bWU6c2VjcmV0"), _password(b"?")
        (b'secret', b'')
    """
    try:
        return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def _refused(status: int, sentence: str, kind: str, headers: Mapping[str, str] | None = None) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(error_body(sentence, kind), status_code=status, headers=dict(headers or {}))


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """No answer: nobody is there any more."""
