"""Paths as files and folders can have them: one check for whatever reads or writes."""

import os
from pathlib import Path
from typing import Any

from mopref._repr import short_repr

__all__ = ["LONGEST_NAME", "checked_path"]

# Of a file or a folder, on all usual file systems.
LONGEST_NAME = 255


def checked_path(path: Any, name: str) -> Path:
    """The path of a file or a folder.

    Raises:
        TypeError: something else than a text or a path.
        ValueError: a text that no path can be: with a null character, half of a character, or too long a name.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} is {short_repr(path)}, of type {type(path).__name__}: give a path.")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"{name} is a path of bytes, {short_repr(text)}: give one of text.")
    if "\0" in text or not _is_encodable(text):
        raise ValueError(f"{name} is {short_repr(text)}: it has a character that no name of a file can have.")
    if os.name != "nt" and max((len(os.fsencode(part)) for part in Path(text).parts), default=0) > LONGEST_NAME:
        raise ValueError(
            f"{name} is {short_repr(text)}: a name in it has more than {LONGEST_NAME} bytes, so shorten it."
        )
    return Path(path)


def _is_encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
