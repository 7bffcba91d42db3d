"""Files read whole, of a size that was looked at before: a stranger's may be endless, or larger than the memory."""

import stat
from pathlib import Path

__all__ = ["read_bounded"]


def read_bounded(path: Path, most_bytes: int, what: str) -> bytes:
    """The content of a regular file of ``most_bytes`` at most; ``what`` it is, such as "a front", for the message.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, a pipe or a device, or a larger file.
    """
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
