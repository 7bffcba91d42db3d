"""Warnings that point at the caller's own line, however deep in the library they come from."""

import sys
import warnings

__all__ = ["warn"]

# Packages whose frames lie between a call and the warning: the library itself, and what calls its hooks.
_BETWEEN = {"mopref", "torch", "accelerate", "transformers", "contextlib", "functools"}


def warn(message: str) -> None:
    """Warn by a ``UserWarning`` that shows the line which called into the library.

    A number of frames to go up, as ``stacklevel`` is one, is right for one way to a warning alone: decorators, and
    several public functions above one check, lead to another line.
    """
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(message, stacklevel=level)
