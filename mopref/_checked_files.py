"""Files that another wrote, opened with care: plain ones, inside their folder, of a bounded size, without escape codes.

Each refusal is a ``ValueError`` that names the file.
"""

import hashlib
import json
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mopref._write_ahead import PENDING, current_file

__all__ = [
    "MAX_DESCRIPTION_BYTES",
    "file_digest",
    "is_readable_text",
    "parsed_description",
    "parsed_json",
    "printable",
    "regular_file",
]

# A description of 40,000 layers is smaller; parsed, it takes about twenty times as much memory.
MAX_DESCRIPTION_BYTES = 16 * 2**20
# Ours nest four deep.
_MAX_DEPTH = 32
# Control characters, halves of characters, and marks that end a line.
_CONTROL = {"Cc", "Cs", "Zl", "Zp"}
# Turn the order of what stands around them on a screen.
_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def regular_file(folder: Path, name: str) -> Path | None:
    """The path of a file of a folder that is to be read; ``None`` where there is none.

    Raises:
        ValueError: no plain file (a folder, a pipe, a device), or a link that leads out of the folder. Links of the
            hub's cache, from a snapshot to the blobs of its repository, are followed.
    """
    path = current_file(folder, name)
    if not os.path.lexists(path):
        return None
    if path.is_symlink():
        _check_link(path)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{path} cannot be opened ({error.strerror or error}): copy the file itself there.") from error
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is no plain file, but a folder, a pipe or a device: delete it, or copy a file there.")
    return path


def _check_link(path: Path) -> None:
    folder = path.parent.resolve()
    home = folder.parent if folder.name == PENDING else folder
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} is a link that leads nowhere: copy the file itself there.") from error
    if target.is_relative_to(home):
        return
    # models--OWNER--NAME/snapshots/REVISION/… and models--OWNER--NAME/blobs/HASH
    for part in (home, *home.parents):
        if part.parent.name == "snapshots" and part.parents[1].name.startswith("models--"):
            if target.parent == part.parents[1] / "blobs":
                return
    raise ValueError(
        f"{path} is a link to {printable(str(target))}, which is not in that folder: a file from elsewhere is not read "
        "for one of its own. Copy the file itself there."
    )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Within this block an error of the system names the file: one of a failing disk while it is read does not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def file_digest(path: Path) -> str:
    """The SHA-256 of a file; an error of the disk names it."""
    with _named(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parsed_description(path: Path, limit: int = MAX_DESCRIPTION_BYTES) -> Any:
    """What a small JSON file says; nothing of it is unfit to be printed.

    Raises:
        ValueError: more bytes than ``limit``, no JSON text in UTF-8, one that is nested too deep, or control
            characters in it.
    """
    with _named(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > limit else file.read(limit + 1)
    if size > limit or len(content) > limit:
        raise ValueError(f"{path} holds {max(size, len(content))} bytes, and a description at most {limit}")
    return parsed_json(content, str(path))


def parsed_json(content: bytes, source: str) -> Any:
    """What a JSON text in UTF-8 says; the source says in a message where it comes from.

    Raises:
        ValueError: no such text, one that says a key twice or is nested too deep, or control characters in it.
    """
    try:
        tree = json.loads(content.decode("utf-8"), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is not valid JSON ({printable(str(error))})") from error
    waiting = [(tree, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"{source} is not valid JSON of ours (it is nested more than {_MAX_DEPTH} deep)")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str) and not is_readable_text(value):
            raise ValueError(f"{source} holds control characters, in {value!r:.80}")
    return tree


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose keys are there once: of two, readers take the first or the last."""
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {double!r:.80} is there twice")
    return content


def is_readable_text(text: str) -> bool:
    """Whether a text is one line without control characters, which would act on a terminal, or turn its order."""
    # Most texts are plain, and need no look at each character.
    if text.isprintable():
        return True
    return not any(unicodedata.category(sign) in _CONTROL or sign in _DIRECTIONS for sign in text)


def printable(text: str) -> str:
    """A text from elsewhere as it may be printed: what a terminal would act on is escaped.

    Example:
        >>> printable("a" + chr(27)) == "a" + chr(92) + "x1b", printable("größe")
        (True, 'größe')
    """
    return "".join(sign if is_readable_text(sign) else sign.encode("unicode_escape").decode() for sign in text)
