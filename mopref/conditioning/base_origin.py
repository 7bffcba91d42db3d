"""Where a base model comes from, as an adapter records it: its name, the hub's commit, or that it is a folder."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from mopref._checked_files import is_readable_text

__all__ = ["BaseOrigin", "base_name", "base_origin", "checked_origin", "is_path", "note_commit"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


class BaseOrigin(NamedTuple):
    """Where a base model comes from.

    Attributes:
        name: the hub's id, or the path of a folder; empty where nothing is known.
        revision: the commit of the hub that was loaded, 40 hexadecimal digits; ``None`` where it is not known.
        is_local: whether the name is a folder's on the machine that wrote it; ``None`` of an adapter of before format
            version 3.
    """

    name: str
    revision: str | None
    is_local: bool | None


def base_name(base_model: nn.Module) -> str:
    """The name or the path of a base model; empty where it has none, or one that could act on a terminal."""
    name = str(getattr(base_model, "name_or_path", "") or "")
    return name if is_readable_text(name) else ""


def base_origin(base_model: nn.Module) -> BaseOrigin:
    """Where a base model was loaded from."""
    name = base_name(base_model)
    if not name or os.path.exists(name) or is_path(name):
        return BaseOrigin(name, None, bool(name))
    commit = getattr(getattr(base_model, "config", None), "_commit_hash", None)
    return BaseOrigin(name, commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None, False)


def note_commit(base_model: Any, commit: str) -> None:
    """Keep the commit that a base model was loaded from with its configuration; it is not saved with that."""
    if _COMMIT.fullmatch(commit):
        base_model.config._commit_hash = commit


def checked_origin(description: dict[str, Any], folder: Path) -> BaseOrigin:
    """Where the base model of an adapter is to be loaded from, as its description says.

    Raises:
        ValueError: no name, no text, or a folder of another machine, whose name is not asked of the hub.
    """
    name, revision = description.get("base_model"), description.get("base_revision")
    is_local = description.get("base_is_local")
    if name and not isinstance(name, str):
        raise ValueError(f"{folder}: base_model is {name!r:.80}, not a text: the adapter is damaged.")
    if revision is not None and not (isinstance(revision, str) and _COMMIT.fullmatch(revision)):
        raise ValueError(f"{folder}: base_revision is {revision!r:.80}, not a commit: the adapter is damaged.")
    load_it = "load the base and call PreferenceModel.load(base, folder)."
    if not name:
        raise ValueError(f"{folder} does not name its base model: {load_it}")
    if not os.path.exists(name) and (is_local is True or is_path(name)):
        raise ValueError(
            f"{folder} was trained on a base model in the folder {name!r:.200}, which is not here, and is not looked "
            f"for on the hub: put it there again, or {load_it}"
        )
    return BaseOrigin(name, revision, is_local if isinstance(is_local, bool) else None)


def is_path(name: str) -> bool:
    """Whether a name is a path's, and never a hub's OWNER/NAME."""
    return Path(name).is_absolute() or name.startswith((".", "~")) or "\\" in name or name.count("/") > 1
