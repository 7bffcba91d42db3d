"""JSON over HTTP by the standard library: no redirects, no proxies, answers of a bounded size."""

import json
import os
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from mopref._checked_files import printable
from mopref._repr import short_repr
from mopref.option_checks import checked_positive

__all__ = ["JsonClient", "StatusError"]

# A step's answer to one prompt: some hundred bytes for each token.
_MOST_BYTES = 256 * 2**20
_SHOWN = 400


class StatusError(Exception):
    """An answer that says no.

    Args:
        status: of HTTP.
        reason: what the server says, fit to be printed.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status, self.reason = status, reason


class JsonClient:
    """Asks one server; may be used by several threads.

    Args:
        url: the server's address, ``http://HOST:PORT`` or https; a path in it comes before those that are asked for.
        timeout: the seconds that it may keep silent.
        key_variable: the variable of the environment with the key that requests bear, where it is set.

    Raises:
        ValueError: no such address, or one with a password in it.
        TypeError: no text.
    """

    def __init__(self, url: str, timeout: float, key_variable: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url is {short_repr(url)}, a {type(url).__name__}: give a text, http://127.0.0.1:8000.")
        self.url, self._key_variable = url, key_variable
        self.timeout = checked_positive(timeout, "timeout", "an answer takes its time, so it must be > 0 seconds")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"url is {short_repr(url)} ({error}): give one as http://127.0.0.1:8000.") from None
        is_plain = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme not in ("http", "https") or not host or not is_plain or parts.query or parts.fragment:
            raise ValueError(f"url is {short_repr(url)}: give the address of a server, such as http://127.0.0.1:8000.")
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                f"the url of {host} holds a name or a password, which would be shown with it: set {key_variable} "
                "instead."
            )
        self._connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port, self._path = host, port, parts.path.rstrip("/")

    def ask(self, path: str, form: Any = None) -> Any:
        """What the server answers to a GET, or to a POST of a form.

        Raises:
            StatusError: an answer of another status than 2xx.
            ConnectionError: no answer, or none that can be read.
        """
        try:
            status, content = self._exchange(path, form)
        except (OSError, HTTPException) as error:
            reason = printable(str(error)) or type(error).__name__
            raise ConnectionError(
                f"the server at {self.url} does not answer ({reason:.{_SHOWN}}): start it, or look at its log."
            ) from error
        if not 200 <= status < 300:
            raise StatusError(status, _reason(content))
        try:
            # Some answers are a plain sentence, which nobody needs.
            return json.loads(content) if content[:1] in (b"{", b"[") else None
        except (ValueError, RecursionError):
            raise ConnectionError(f"the server at {self.url} answers {path} by no JSON: is it vLLM?") from None

    def _exchange(self, path: str, form: Any) -> tuple[int, bytes]:
        connection = self._connect(self._host, self._port, timeout=self.timeout)
        key = os.environ.get(self._key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            if form is None:
                connection.request("GET", self._path + path, headers=headers)
            else:
                body = json.dumps(form, allow_nan=False).encode()
                headers["Content-Type"] = "application/json"
                connection.request("POST", self._path + path, body, headers)
            answer = connection.getresponse()
            content = answer.read(_MOST_BYTES + 1)
        finally:
            connection.close()
        if len(content) > _MOST_BYTES:
            raise OSError(f"its answer has more than {_MOST_BYTES >> 20} MiB")
        return answer.status, content


def _reason(content: bytes) -> str:
    """The sentence in an answer that says no."""
    text = content[: 16 * _SHOWN].decode("utf-8", "replace")
    try:
        said = json.loads(text)
        said = said.get("error", said.get("detail", said))
        text = str(said.get("message", said)) if isinstance(said, dict) else str(said)
    except (ValueError, AttributeError, RecursionError):
        pass
    return printable(" ".join(text.split()))[:_SHOWN].rstrip(".") or "no reason"
