"""Files read whole, of a size that was looked at before: a stranger's may be endless, or larger than the memory."""

import os
import stat
from pathlib import Path

from mopref._paths import checked_path

__all__ = ["read_bounded"]


def read_bounded(path: Path, most_bytes: int, what: str) -> bytes:
    """The content of a regular file of ``most_bytes`` at most; ``what`` it is, such as "a front", for the message.

    Raises:
        FileNotFoundError: no such file.
        OSError: one that cannot be read, such as for want of a right.
        ValueError: a folder, a pipe or a device, a larger file, or a path that no file can have.
    """
    path = checked_path(path, "path")
    try:
        return _content(path, most_bytes, what)
    except FileNotFoundError as error:
        told = f"there is no file {path} (looked for in {os.getcwd()!r}): give the path of {what}"
        raise FileNotFoundError(error.errno, told) from None
    except OSError as error:
        told = f"{path} cannot be read ({error.strerror}): give the path of {what} that can"
        raise type(error)(error.errno, told) from error


def _content(path: Path, most_bytes: int, what: str) -> bytes:
    # Looked at before it is opened: a pipe would wait for its writer.
    if not stat.S_ISREG(path.stat().st_mode):
        kind = "folder" if path.is_dir() else "pipe or a device"
        raise ValueError(f"{path} is a {kind}, and no file that could hold {what}: give the path of a file.")
    with path.open("rb") as file:
        # One more than that, however the file has grown since.
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(
            f"{path} has more than {most_bytes / 2**20:.4g} MiB, the most that {what} may have: it is something else, "
            "or was spoilt."
        )
    return content
