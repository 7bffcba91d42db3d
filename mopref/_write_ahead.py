"""Files that belong together, written into a folder that may hold others: all of them count at once, or none does.

They are written into a hidden folder of that folder, synchronised, and committed by one renaming; then each takes its
place. A reader asks :func:`current_file` for each name: at every moment it finds the older files or the newer, whole.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mopref._atomic_writes import sync
from mopref._paths import checked_path

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

__all__ = ["PENDING", "current_file", "finish_pending", "write_ahead", "write_together"]

# Files that count, and are still to be moved to their places.
PENDING = ".pending"
_WRITING = ".writing-"


def current_file(folder: Path, name: str) -> Path:
    """Where the file of that name is to be read, if there is one: a write that was killed may have left it aside.

    Raises:
        ValueError: the hidden folder is a link, which leads elsewhere.
    """
    pending = folder / PENDING
    if pending.is_symlink():
        raise ValueError(
            f"{pending} is a link, so that files from elsewhere would be read for those of {folder}: delete it."
        )
    aside = pending / name
    return aside if os.path.lexists(aside) else folder / name


@contextmanager
def write_ahead(folder: Path) -> Iterator[Path]:
    """Yield an empty folder; what it holds when the block succeeds takes its places in ``folder`` in one step.

    Other files of the folder stay; it is made where it is missing. Writers take turns, and each first finishes, or
    removes, what a killed one left.

    Raises:
        ValueError: a path that no folder can have.
        OSError: nothing can be written, such as on a full disk; what was there is still there.
    """
    folder = checked_path(folder, "folder")
    made: list[Path] = []
    committed = False
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in made:
            sync(path.parent)
        with _turn(folder):
            finish_pending(folder)
            _remove_unfinished(folder)
            # By the umask, as every other folder of the user's.
            writing = folder / f"{_WRITING}{secrets.token_hex(4)}"
            writing.mkdir()
            try:
                yield writing
                _sync_content(writing)
                os.replace(writing, folder / PENDING)
                committed = True
                sync(folder)
                finish_pending(folder)
            finally:
                shutil.rmtree(writing, ignore_errors=True)
    except BaseException as error:
        if not committed:
            for path in made:
                with suppress(OSError):
                    path.rmdir()
        # One that tells the folder already comes from another of several.
        if isinstance(error, OSError) and not isinstance(error.__cause__, OSError):
            kept = "the new files count" if committed else "what was there before is as it was"
            raise OSError(
                error.errno or errno.EIO,
                f"{folder} could not be written ({error.strerror or error}); {kept}. Free some space there or allow "
                "writing, or choose another folder, and save again.",
            ) from error
        raise


def write_together(folders: Mapping[Path, Mapping[str, bytes]], index: str | None = None) -> None:
    """Write files, by folder and name. Those of one folder count at once; none of any before all are on the disk.

    Args:
        folders: the files; the first folder's count last.
        index: a file of the first folder that tells of the others': an older one goes before any newer file counts, so
            that it never stands beside a part of them.

    Raises:
        OSError: as :func:`write_ahead`.
    """
    with ExitStack() as stack:
        for folder, files in folders.items():
            writing = stack.enter_context(write_ahead(folder))
            for name, content in files.items():
                (writing / name).write_bytes(content)
            _sync_content(writing)
        if index is not None:
            first = next(iter(folders))
            (first / index).unlink(missing_ok=True)
            sync(first)


def finish_pending(folder: Path) -> None:
    """Move what a killed writer committed to its place.

    Raises:
        ValueError: as :func:`current_file`.
    """
    pending = folder / PENDING
    if pending.is_symlink():
        current_file(folder, "")
    if not pending.is_dir():
        return
    # Descriptions last. Whoever does not know of the hidden folder finds none rather than an older one beside newer
    # tensors; one that says the same stays.
    paths = sorted(pending.iterdir(), key=lambda path: (path.suffix == ".json", path.name))
    changed = [path for path in paths if not _is_same(path, folder / path.name)]
    for path in changed:
        if path.suffix == ".json":
            (folder / path.name).unlink(missing_ok=True)
    for path in changed:
        os.replace(path, folder / path.name)
    sync(folder)
    for path in paths:
        path.unlink(missing_ok=True)
    pending.rmdir()
    sync(folder)


def _is_same(path: Path, other: Path) -> bool:
    if path.suffix != ".json" or not all(part.is_file() and not part.is_symlink() for part in (path, other)):
        return False
    return path.stat().st_size == other.stat().st_size and path.read_bytes() == other.read_bytes()


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{_WRITING}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _sync_content(folder: Path) -> None:
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait for other writers of the folder; a killed one no longer holds it."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems have no locks.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
