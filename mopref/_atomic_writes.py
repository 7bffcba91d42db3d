"""Files and folders that appear under their name only when they are complete, and on the disk.

What a call has returned from survives a power cut: files and the folders that name them are synchronised. What a call
was killed in leaves the older content, and hidden files that the next one removes.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mopref._paths import checked_path

__all__ = ["remove_folder", "remove_leftovers", "replace_folder", "settle_folder", "sync", "write_atomically"]

_UNFINISHED, _REPLACED, _REMOVED = ".unfinished", ".replaced", ".removed"


def sync(path: Path) -> None:
    """Wait until a file's content, or which names a folder holds, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folder.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, replacing an older one only at the end; missing folders are made. An error leaves no trace.

    Raises:
        ValueError: a path that no file can have.
        OSError: nothing can be written there: it is told, and what to do.
    """
    path = checked_path(path, "path")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        _write(path, content)
    except OSError as error:
        raise _told(error, path) from error


def _write(path: Path, content: bytes) -> None:
    _make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        with open(unfinished, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder``, which takes its place only when the block succeeds.

    At every moment there is the older folder or the newer one, whole: where a kill came between the two moves, the
    older waits under a hidden name until :func:`settle_folder`, which every reader calls, puts it back.

    Files are synchronised as they are when the block ends; folders in it are not looked into.

    Raises:
        ValueError: a path that no folder can have.
        OSError: nothing can be written there: it is told, and what to do.
    """
    target = checked_path(folder, "folder")
    if target.name in ("", ".."):
        raise ValueError(f"folder is {str(folder)!r}, which can be replaced by no other: give one within it.")
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        _make_folder(target.parent)
        settle_folder(target)
        # By the umask, as every other folder of the user's.
        unfinished.mkdir()
    except OSError as error:
        raise _told(error, target) from error
    try:
        yield unfinished
        for path in sorted(unfinished.iterdir()):
            sync(path)
        sync(unfinished)
        replaced = _replaced(target)
        if target.exists():
            os.replace(target, replaced)
        os.replace(unfinished, target)
        sync(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        settle_folder(target)
        shutil.rmtree(unfinished, ignore_errors=True)


def settle_folder(folder: str | Path) -> None:
    """Finish what a killed :func:`replace_folder` left: the older folder comes back, or goes where the newer is there.

    Nothing happens where that folder cannot be written into.
    """
    # Whole, since "." and ".." are no names that something can lie beside.
    target = Path(os.path.abspath(folder))
    if not target.name:
        return
    replaced = _replaced(target)
    try:
        # No write leaves a link, which would bring a folder from elsewhere, or stand in the way of the next write.
        if replaced.is_symlink():
            replaced.unlink()
        if not replaced.is_dir():
            return
        if target.exists():
            shutil.rmtree(replaced)
        else:
            os.replace(replaced, target)
    except OSError:
        return


def remove_folder(folder: Path) -> None:
    """Remove a folder: half of it is never there under its name, after a power cut neither."""
    removed = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{_REMOVED}")
    os.replace(folder, removed)
    sync(folder.parent)
    shutil.rmtree(removed, ignore_errors=True)


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Settle and remove what killed processes left of files and folders in ``parent`` whose names begin so."""
    for path in sorted(parent.glob(f".{prefix}*")):
        if path.name.endswith(_REPLACED):
            settle_folder(path.with_name(path.name[1 : -len(_REPLACED)]))
        elif path.name.endswith((_UNFINISHED, _REMOVED)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _replaced(target: Path) -> Path:
    return target.with_name(f".{target.name}{_REPLACED}")


def _told(error: OSError, path: Path) -> OSError:
    """The same error in words that say what to do; a file of the name is as it was."""
    reason = error.strerror or str(error)
    told = (
        f"{path} could not be written ({reason}); what was there before is as it was. Free some space "
        "there or allow writing, or choose another path, and save again."
    )
    return type(error)(error.errno or errno.EIO, told)


def _make_folder(folder: Path) -> None:
    """Make a folder and those it lies in, and see to it that their names are on the disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)
