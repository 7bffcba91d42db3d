"""The bytes of a file that may be packed, up to a size that no text shrinks so much from: it may be a stranger's."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Self, cast

__all__ = ["MOST_LINE_BYTES", "PACKINGS", "PackedFile", "check_unpacked", "most_unpacked"]

PACKINGS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# Of a line; the longest dialogues have a tenth.
MOST_LINE_BYTES = 1 << 24
# What a packed file may unpack to: text shrinks to a tenth, and one that says the same over and over to a fiftieth.
MOST_TIMES, ALWAYS_UNPACKED = 100, 1 << 28


def most_unpacked(path: Path) -> int:
    """The bytes that a packed file may unpack to."""
    return max(ALWAYS_UNPACKED, MOST_TIMES * path.stat().st_size)


def check_unpacked(size: int, most: int, name: str, remedy: str) -> None:
    """Refuse what unpacks to more than that.

    Raises:
        ValueError: it does; ``remedy`` is what to do.
    """
    if size > most:
        raise ValueError(
            f"{name} unpacks to more than {MOST_TIMES} times its size, which no text does: {remedy} yourself if you "
            "know what it holds."
        )


class PackedFile:
    """The unpacked bytes of a file; how it is packed is read off its first bytes, as its name may be a cache's.

    Args:
        path: the file.
        name: what messages call it.
    """

    def __init__(self, path: Path, name: str) -> None:
        with path.open("rb") as file:
            start = file.read(6)
        packings = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz"}
        packing = next((ending for mark, ending in packings.items() if start.startswith(mark)), None)
        self._name, self._size = name, 0
        self._most = None if packing is None else most_unpacked(path)
        self._file = cast("IO[bytes]", path.open("rb") if packing is None else PACKINGS[packing](path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self) -> bytes:
        """All that is left.

        Raises:
            ValueError: it cannot be unpacked, or to very much.
        """
        return self._counted(lambda: self._file.read(-1 if self._most is None else self._most + 1))

    def line(self) -> bytes:
        """The next line, or more than ``MOST_LINE_BYTES`` of it; nothing at the end.

        Raises:
            ValueError: as :meth:`read`.
        """
        return self._counted(lambda: self._file.readline(MOST_LINE_BYTES + 1))

    def _counted(self, read: Callable[[], bytes]) -> bytes:
        try:
            content = read()
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            reason = f"{self._name} cannot be unpacked or read to its end ({error})"
            raise ValueError(f"{reason}: copy it once more.") from error
        self._size += len(content)
        if self._most is not None:
            check_unpacked(self._size, self._most, self._name, "unpack it")
        return content
