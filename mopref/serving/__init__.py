"""Serving: a trained model for other tools, and λ by request on engines that people run already.

What is here is loaded when it is asked for: an engine loads ``mopref.serving.vllm`` where it starts.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .names import ServedName as ServedName, parse_name as parse_name

_PLACES = {"ServedName": "names", "parse_name": "names"}
__all__ = list(_PLACES)


def __getattr__(name: str) -> object:
    """A name of the user's."""
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
