"""What the plain LoRAs of a set are called: each names a folder or a file of its own."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath

from mopref._repr import short_repr

__all__ = ["SCALES_FILE", "SHARED", "check_set_names", "set_names"]

# The LoRA of a set that all preferences share, and the file beside the LoRAs.
SHARED, SCALES_FILE = "shared", "scales.json"
_OTHERS = {
    SHARED: "the LoRA that all preferences share",
    SCALES_FILE: "the file that says how LoRAs are scaled",
    "README.md": "the model card",
}
_DIRECTION = re.compile(r"direction-[0-9]+")
# Of an objective, so that what is called after it has room for an ending.
_LONGEST_NAME = 200


def set_names(objectives: Sequence[str], has_shared: bool, directions: int) -> tuple[str, ...]:
    """The names of a set's LoRAs, in their order: of what all preferences share, of objectives, and of directions.

    Example:
        >>> set_names(("helpful", "harmless"), has_shared=True, directions=2)
        ('shared', 'helpful', 'harmless', 'direction-1', 'direction-2')
    """
    shared = (SHARED,) if has_shared else ()
    return (*shared, *objectives, *(f"direction-{number}" for number in range(1, directions + 1)))


def check_set_names(objectives: Sequence[str], has_directions: bool = False) -> None:
    """Refuse objectives after which the LoRAs of a set cannot be named, each in a folder or a file of its own.

    Args:
        objectives: their names.
        has_directions: whether there are LoRAs of directions, too.

    Raises:
        ValueError: an objective that is called as another LoRA or the file beside them is, or by what is no name of a
            folder of its own, or two names that are alike but for capital letters, or a name that is too long.
    """
    for name in objectives:
        if name in _OTHERS:
            raise ValueError(
                f"an objective is called {name!r}, which is the name of {_OTHERS[name]}: train with another name, or "
                "export plain LoRAs, each at one preference."
            )
        if name in ("", ".", "..") or any(kind(name).name != name for kind in (PurePosixPath, PureWindowsPath)):
            raise ValueError(
                f"the objective {name!r} cannot name a folder of its own, in which its LoRA is written: train with a "
                "name without slashes and colons."
            )
        if len(name.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
            raise ValueError(
                f"the objective {short_repr(name)} has a name of more than {_LONGEST_NAME} bytes, after which no file "
                "can be called on some disks: train with a shorter one."
            )
        if has_directions and _DIRECTION.fullmatch(_folded(name)):
            raise ValueError(
                f"an objective is called {name!r}, as the LoRAs of directions are, which a gate that is not linear "
                "adds: train with another name, or export plain LoRAs, each at one preference."
            )
    names = (*_OTHERS, *objectives)
    counts = Counter(map(_folded, names))
    alike = [name for name in names if counts[_folded(name)] > 1]
    if alike:
        raise ValueError(
            f"the LoRAs {', '.join(alike)} would be called alike but for capital letters, so that on some disks two "
            "of them would share a folder: train with other names."
        )


def _folded(name: str) -> str:
    """What a disk makes of a name that does not tell capital letters apart."""
    return unicodedata.normalize("NFC", name).casefold()
