"""Whether a folder's content can be another user's: what is loaded from it would then be theirs, too."""

import os
import stat
from pathlib import Path

__all__ = ["check_private", "is_own"]


def check_private(folder: Path, remedy: str) -> None:
    """Refuse a folder into which other users may have put files, or which they may have put in the place of another.

    It must belong to this user or to root, and nobody else may write into it. Into the folder above others may write
    where they cannot rename what is not theirs, as in ``/tmp``. The group of this user alone, which some systems give
    to every user, is no other. Nothing is checked where there are no such owners (Windows), or no folder yet.

    Args:
        folder: the folder; a link is followed.
        remedy: ends the message, such as "set MOPREF_CACHE to a folder of your own".

    Raises:
        ValueError: such a folder; owner or permissions are named.
    """
    if os.name == "nt":
        return
    try:
        paths = ((folder, False), (folder.parent, True), (folder.resolve().parent, True))
        statuses = [(path, is_parent, path.stat()) for path, is_parent in paths if path.exists()]
    except (OSError, RuntimeError) as error:  # Python 3.11 has a RuntimeError for a link that leads to itself.
        raise ValueError(f"the folder {folder} cannot be looked at ({error}): {remedy}.") from error
    for path, is_parent, status in statuses:
        if not is_parent and not is_own(status):
            raise ValueError(
                f"the folder {path} belongs to {_user(status.st_uid)}, and files are loaded from it: {remedy}."
            )
        if _is_open(status) and not (is_parent and status.st_mode & stat.S_ISVTX):
            raise ValueError(
                f"other users may write into the folder {path} (permissions {stat.S_IMODE(status.st_mode):o}), and "
                f"files are loaded from {'a folder in it' if is_parent else 'it'}: run chmod go-w on it, or {remedy}."
            )


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user, or to root, who can write everything anyhow."""
    return os.name == "nt" or status.st_uid in (os.geteuid(), 0)


def _is_open(status: os.stat_result) -> bool:
    """Whether others than its owner and root may write into a folder."""
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private_group(status.st_gid, status.st_uid)


def _is_private_group(group: int, user: int) -> bool:
    """Whether a group is root's, or one that is called as its one user is."""
    import grp
    import pwd

    if group == 0:
        return True
    try:
        name, owner = grp.getgrgid(group), pwd.getpwuid(user)
    except KeyError:
        return False
    return name.gr_name == owner.pw_name and owner.pw_gid == group and set(name.gr_mem) <= {owner.pw_name}


def _user(number: int) -> str:
    import pwd

    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user {number}"
