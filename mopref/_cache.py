"""Where files are kept that are fetched or computed once, and folders that appear there only when they are complete.

What is there is checked at every use: that the folder is this user's alone, and that every file has the content it was
written with. Another user cannot slip in a model so, nor a failing disk a wrong weight.
"""

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mopref._atomic_writes import sync
from mopref._bounded_reading import read_bounded
from mopref._checked_files import file_digest
from mopref._paths import checked_path
from mopref._private_folder import check_private, is_own

__all__ = ["build_once", "cache_folder", "check_cache_folder", "content_sum", "is_complete"]

_MANIFEST = "manifest.json"
_MOST_BYTES_OF_MANIFEST = 1 << 20
_PARTIAL_PREFIX = ".partial-"
_REMEDY = "set the environment variable MOPREF_CACHE to a folder of your own"


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder ``cache_dir``, or else ``$MOPREF_CACHE``, ``$XDG_CACHE_HOME/mopref`` or ``~/.cache/mopref``.

    Raises:
        ValueError: a home folder that nobody knows, or what no path can be.
    """
    if cache_dir is None:
        own, of_all = os.environ.get("MOPREF_CACHE"), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        cache_dir = own or Path(of_all) / "mopref"
    try:
        return checked_path(cache_dir, "the cache folder").expanduser()
    except RuntimeError as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"the cache folder is {str(cache_dir)!r}, which is nowhere ({reason}): {_REMEDY}.") from error


def check_cache_folder(folder: Path) -> None:
    """Refuse a cache folder, there or not yet, that other users can write into.

    Raises:
        ValueError: such a folder.
    """
    check_private(folder, _REMEDY)


def is_complete(folder: Path, key: Mapping[str, Any], content: str | None = None) -> bool:
    """Whether ``build_once`` finished a folder under this key, and every file still has the content it was given then.

    Files that came later, links and files of other users make it incomplete; hidden files count for nothing.

    Args:
        folder: the folder.
        key: what its content depends on.
        content: what ``content_sum`` must be, where that is known beforehand.

    Raises:
        ValueError: the folder above is one that other users can write into.
    """
    check_cache_folder(folder.parent)
    try:
        manifest = json.loads(read_bounded(folder / _MANIFEST, _MOST_BYTES_OF_MANIFEST, "a manifest"))
        if manifest["key"] != dict(key):
            return False
        sums = _sums(folder)
        return sums is not None and manifest["sha256"] == sums and content in (None, _sum_of(sums))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def content_sum(folder: Path) -> str | None:
    """One sha256 of all files of a folder and their names; ``None`` where it holds a link, or a file of another's."""
    sums = _sums(folder)
    return None if sums is None else _sum_of(sums)


def build_once(target: Path, key: Mapping[str, Any], build: Callable[[Path], None], content: str | None = None) -> Path:
    """A folder that is built unless it is there already under the same key.

    It is filled beside its place and moved there, with a manifest, only when all is done and on the disk, so that an
    interruption leaves nothing that looks complete. Processes that build the same folder at once do not disturb each
    other: the first to finish wins. It and the folder above, where it is made, are this user's alone.

    Args:
        target: the folder.
        key: what its content depends on, as JSON can hold it.
        build: writes the content into the empty folder it is called with.
        content: what ``content_sum`` must be, where that is known beforehand.

    Returns:
        ``target``.

    Raises:
        OSError: nothing can be written there.
        ValueError: the folder above is one that other users can write into.
        RuntimeError: what was built is not what it must be.
    """
    if is_complete(target, key, content):
        return target
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_cache_folder(target.parent)
        _remove_stale_partials(target.parent)
        beside = tempfile.TemporaryDirectory(prefix=_PARTIAL_PREFIX, dir=target.parent)
    except OSError as error:
        reason = f"nothing can be kept in the folder {target.parent} ({error.strerror or error}): {_REMEDY}"
        raise OSError(error.errno, reason) from error
    with beside as parent:
        folder = Path(parent) / target.name
        folder.mkdir(mode=0o700)
        build(folder)
        _finish(folder, key, content)
        if os.path.lexists(target) and not is_complete(target, key, content):
            # An older version or a damaged folder. Moving it aside first keeps the time without a target short.
            os.replace(target, Path(parent) / "replaced")
        try:
            os.replace(folder, target)
        except OSError:
            if not is_complete(target, key, content):
                raise
        sync(target.parent)
    return target


def _finish(folder: Path, key: Mapping[str, Any], content: str | None) -> None:
    """Write the manifest, take other users' rights away, and wait until all is on the disk."""
    for path in (path for path in folder.rglob("*") if not path.is_symlink()):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o022)
    sums = _sums(folder)
    if sums is None or content not in (None, _sum_of(sums)):
        raise RuntimeError(
            f"what was made for the cache ({folder.name}) is not what it must be: it has the sum "
            f"{'of a link' if sums is None else _sum_of(sums)}, not {content}."
        )
    text = json.dumps({"key": dict(key), "sha256": sums}, indent=2)
    (folder / _MANIFEST).write_text(text + "\n", encoding="utf-8")
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


def _sums(folder: Path) -> dict[str, str] | None:
    """The sha256 of each file by its name; ``None`` where something is a link, or another user's to write."""
    if not _is_unchanged_by_others(folder, stat.S_ISDIR):
        return None
    sums = {}
    for parent, folders, names in os.walk(folder):
        if not all(_is_unchanged_by_others(Path(parent, name), stat.S_ISDIR) for name in folders):
            return None
        for path in (Path(parent, name) for name in names):
            name = path.relative_to(folder).as_posix()
            if path.name.startswith(".") or name == _MANIFEST:
                continue
            if not _is_unchanged_by_others(path, stat.S_ISREG):
                return None
            sums[name] = file_digest(path)
    return dict(sorted(sums.items()))


def _is_unchanged_by_others(path: Path, is_kind: Callable[[int], bool]) -> bool:
    # Of a link this is the link's own status.
    status = path.lstat()
    return is_kind(status.st_mode) and is_own(status) and (os.name == "nt" or not status.st_mode & stat.S_IWOTH)


def _sum_of(sums: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(sorted(sums.items()))).encode()).hexdigest()


def _remove_stale_partials(folder: Path, age_seconds: float = 86_400.0) -> None:
    """Remove what a killed process left behind a day or more ago; a younger folder may belong to a process at work."""
    for path in folder.glob(f"{_PARTIAL_PREFIX}*"):
        try:
            if time.time() - path.stat().st_mtime > age_seconds:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue
