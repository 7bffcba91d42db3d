"""Where files are kept that are fetched or computed once, and folders that appear there only when they are complete."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["build_once", "cache_folder", "is_complete"]

_MANIFEST = "manifest.json"
_PARTIAL_PREFIX = ".partial-"


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder ``cache_dir``, or else ``$MOPREF_CACHE``, ``$XDG_CACHE_HOME/mopref`` or ``~/.cache/mopref``."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if os.environ.get("MOPREF_CACHE"):
        return Path(os.environ["MOPREF_CACHE"]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]).expanduser() / "mopref"
    return Path.home() / ".cache" / "mopref"


def is_complete(folder: Path, key: Mapping[str, Any]) -> bool:
    """Whether ``build_once`` finished a folder under this key and every file still has its full size."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return manifest["key"] == dict(key) and all(
            (folder / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def build_once(target: Path, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """A folder that is built unless it is there already under the same key.

    It is filled beside its place and moved there, with a manifest, only when all is done, so that an interruption
    leaves nothing that looks complete. Processes that build the same folder at once do not disturb each other: the
    first to finish wins.

    Args:
        target: the folder.
        key: what its content depends on, as JSON can hold it.
        build: writes the content into the empty folder it is called with.

    Returns:
        ``target``.
    """
    if is_complete(target, key):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale_partials(target.parent)
    with tempfile.TemporaryDirectory(prefix=_PARTIAL_PREFIX, dir=target.parent) as parent:
        folder = Path(parent) / target.name
        folder.mkdir()
        build(folder)
        _write_manifest(folder, key)
        if target.exists() and not is_complete(target, key):
            # An older version or a damaged folder. Moving it aside first keeps the time without a target short.
            os.replace(target, Path(parent) / "replaced")
        try:
            os.replace(folder, target)
        except OSError:
            if not is_complete(target, key):
                raise
    return target


def _write_manifest(folder: Path, key: Mapping[str, Any]) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    content = json.dumps({"key": dict(key), "files": files}, indent=2)
    (folder / _MANIFEST).write_text(content + "\n", encoding="utf-8")


def _remove_stale_partials(folder: Path, age_seconds: float = 86_400.0) -> None:
    """Remove what a killed process left behind a day or more ago; a younger folder may belong to a process at work."""
    for path in folder.glob(f"{_PARTIAL_PREFIX}*"):
        try:
            if time.time() - path.stat().st_mtime > age_seconds:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue
