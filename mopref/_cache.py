"""Where files are kept that are fetched or computed once."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder given, or else ``$MOPREF_CACHE``, ``$XDG_CACHE_HOME/mopref`` or ``~/.cache/mopref``."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if os.environ.get("MOPREF_CACHE"):
        return Path(os.environ["MOPREF_CACHE"]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]).expanduser() / "mopref"
    return Path.home() / ".cache" / "mopref"
