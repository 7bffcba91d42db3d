"""Which errors are the user's to mend: those are told in a sentence, all others with their traceback."""

import errno

from mopref.recipes import RecipeError, RunFolderError
from mopref.recipes.mistakes import raised_by

__all__ = ["UsageError", "is_mistake"]

# What the library raises of data, files, disks and settings; of these types errors may come from elsewhere, too.
_TOLD = (ValueError, OSError, ImportError)

# What the system says of a path that the user gave, whichever library asked.
_OF_A_PATH = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EROFS, errno.ELOOP)


class UsageError(ValueError):
    """A command line that cannot be."""


def is_mistake(error: BaseException) -> bool:
    """Whether an error is about what the user gave: a recipe, a run's folder, or what the library itself refuses.

    An error of the same type from another library is none: it may be a fault of ours.
    """
    if isinstance(error, RecipeError | RunFolderError | UsageError):
        return True
    if isinstance(error, OSError) and error.errno in _OF_A_PATH:
        return True
    return isinstance(error, _TOLD) and raised_by(error) == "mopref"
