"""A mark on a cache of keys and values: the preference that they were computed under."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

__all__ = ["CACHE_NAMES", "check_cache", "mark_cache"]

# What transformers calls a cache that a forward is given and returns: today, and in earlier versions.
CACHE_NAMES = ("cache", "past_key_values", "cache_params")
_MARK = "mopref_preferences"


def mark_cache(output: Any, preferences: Tensor | None) -> None:
    """Remember on the cache of a forward's output what it was computed under; ``None`` for disabled adapters."""
    # Its own entries: by an earlier name transformers would give it, too, with a warning.
    for cache in _caches(getattr(output, "__dict__", {})):
        # A cache of another kind (a tuple of tensors) has no place for it.
        with suppress(AttributeError):
            setattr(cache, _MARK, (preferences,))


def check_cache(arguments: Mapping[str, Any], preferences: Tensor | None) -> None:
    """Refuse a cache among a forward's arguments that was computed under another preference than the one in force.

    Raises:
        ValueError: it was.
    """
    for cache in _caches(arguments):
        _check_mark(getattr(cache, _MARK, None), preferences)


def _caches(entries: Mapping[str, Any]) -> list[Any]:
    return [entries[name] for name in CACHE_NAMES if entries.get(name) is not None]


def _check_mark(mark: tuple[Tensor | None] | None, preferences: Tensor | None) -> None:
    if mark is None:
        return
    (before,) = mark
    if before is preferences or (before is not None and preferences is not None and torch.equal(before, preferences)):
        return
    raise ValueError(
        "the cache (past_key_values) was computed under another preference than the one that is given now: begin with "
        "a new cache, or give the same preference."
    )
