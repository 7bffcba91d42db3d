"""The public names of a package, from what its face imports."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

__all__ = ["public_names"]


def public_names(face: Mapping[str, Any]) -> list[str]:
    """The names in a package's ``globals()`` that are its own to give: no modules, and nothing private.

    For ``__all__``: a face then says each name once, and ``from package import *`` brings no modules along.

    Example:
        >>> public_names({"Tchebycheff": object, "pbi": ModuleType("pbi"), "_private": object})
        ['Tchebycheff']
    """
    return [name for name, value in face.items() if not name.startswith("_") and not isinstance(value, ModuleType)]
