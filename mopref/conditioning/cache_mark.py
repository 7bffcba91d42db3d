"""A mark on a cache of keys and values: the preference that they were computed under."""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_cache", "mark_cache"]

_MARK = "mopref_preferences"


def mark_cache(cache: Any, preferences: Tensor | None) -> None:
    """Remember on a cache what it was computed under; ``None`` for disabled adapters."""
    if cache is None:
        return
    # A cache of another kind (a tuple of tensors) has no place for it.
    with suppress(AttributeError):
        setattr(cache, _MARK, (preferences,))


def check_cache(cache: Any, preferences: Tensor | None) -> None:
    """Refuse a cache that was computed under another preference than the one in force.

    Raises:
        ValueError: it was.
    """
    mark = getattr(cache, _MARK, None)
    if mark is None:
        return
    (before,) = mark
    if before is preferences or (before is not None and preferences is not None and torch.equal(before, preferences)):
        return
    raise ValueError(
        "past_key_values were computed under another preference than the one that is given now: begin with a new "
        "cache, or give the same preference."
    )
