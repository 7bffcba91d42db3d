"""One array in a file with the sha256 of it: a damaged one is not taken for another, and no pickle is ever read."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mopref._atomic_writes import write_atomically
from mopref._bounded_reading import read_bounded

__all__ = ["read_array", "write_array"]

_BYTES_OF_SUM = 32
_MOST_BYTES_OF_HEADER = 4_096


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array and behind it the sha256 of its file, into a folder that is made for this user alone."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, content.getvalue() + hashlib.sha256(content.getvalue()).digest())


def read_array(path: Path, num_bytes: int) -> NDArray[Any]:
    """The array of so many bytes that :func:`write_array` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is damaged, larger, or holds something else.
    """
    content = read_bounded(path, num_bytes + _MOST_BYTES_OF_HEADER, "points")
    array, checksum = content[:-_BYTES_OF_SUM], content[-_BYTES_OF_SUM:]
    if hashlib.sha256(array).digest() != checksum:
        raise ValueError(f"{path} was damaged.")
    return np.asarray(np.lib.format.read_array(io.BytesIO(array), allow_pickle=False))
