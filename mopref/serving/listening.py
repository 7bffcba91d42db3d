"""Where the server listens: on loopback, unless its operator says otherwise and asks for a token."""

import ipaddress
import re
import socket
import stat
from pathlib import Path
from typing import Any

from mopref._warning import warn
from mopref.argument_kinds import checks_arguments

__all__ = ["bound_socket", "check_exposure", "http_server", "is_loopback", "read_token", "run_server"]

_SHORTEST_TOKEN, _LONGEST_FILE = 16, 4096
# What may stand behind "Bearer" in a header.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
# The seconds that answers under way have to end when the server is told to.
_GRACE = 10


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@checks_arguments
def check_exposure(host: str, public: bool, token: str | None) -> None:
    """Refuse to be reached by other machines without a word, or without a token.

    Raises:
        ValueError: an address beyond loopback without ``public`` or without a token, or ``public`` on loopback, where
            it does nothing.
    """
    if is_loopback(host):
        if public:
            raise ValueError(
                f"host is {host!r}, which only this machine reaches, and --public is said: give the --host that others "
                "reach, too, or leave --public out."
            )
        return
    if not public:
        raise ValueError(
            f"host is {host!r}, by which other machines reach the server: keep 127.0.0.1, or say so with --public and "
            "give a --token-file."
        )
    if token is None:
        raise ValueError(
            f"host is {host!r}, by which other machines reach the server: give a --token-file, so that not everybody "
            "can use it."
        )


@checks_arguments
def read_token(path: str | Path) -> str:
    """The token in a file: one line of at least 16 characters.

    Raises:
        ValueError: no such file, or one that holds something else.

    Warns:
        UserWarning: other users can read the file.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"the token's file {file} is no plain file: write the token into one.")
        with file.open("rb") as stream:
            content = stream.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise ValueError(
            f"the token's file {file} cannot be read ({error.strerror}): write the token into it."
        ) from None
    token = content.decode("latin-1").strip()
    if len(content) > _LONGEST_FILE or not _TOKEN.fullmatch(token) or len(token) < _SHORTEST_TOKEN:
        # The content is not shown, since a part of it may be a secret.
        raise ValueError(
            f"the token's file {file} holds no token: write one line of at least {_SHORTEST_TOKEN} letters, digits and "
            "-._~+/=, as `openssl rand -hex 32` makes it."
        )
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"other users of this machine can read the token in {file}: take that from them by `chmod 600`.")
    return token


@checks_arguments
def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at this address, which nobody else can take any more; port 0 is any that is free.

    Raises:
        ValueError: an address or a port that there is not, or that another program has.
    """
    if not 0 <= port < 1 << 16:
        raise ValueError(f"port is {port}: it lies in 0 … {(1 << 16) - 1}, and 0 is any that is free.")
    try:
        (family, kind, *_, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise ValueError(
            f"{host}, port {port}, cannot be listened at ({error.strerror or error}): choose another."
        ) from None
    return bound


def http_server(app: Any) -> Any:
    """The server of an application, of uvicorn; ``run(sockets=[bound])`` serves until ``should_exit`` is set.

    Answers under way have ten seconds to end then.
    """
    import uvicorn

    # No log of requests: what people ask is theirs.
    options: dict[str, Any] = {"ws": "none", "log_level": "warning", "access_log": False, "server_header": False}

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: Any = None) -> None:
            # Connections that stay open for as long as a page is: nothing is under way on them.
            getattr(app, "let_go", lambda: None)()
            await super().shutdown(sockets)

    return Server(uvicorn.Config(app, timeout_graceful_shutdown=_GRACE, **options))


def run_server(app: Any, bound: socket.socket) -> None:
    """Serve an application at a bound socket, until SIGINT or SIGTERM."""
    http_server(app).run(sockets=[bound])
