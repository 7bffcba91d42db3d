"""Rows of a cache of keys and values: those of two caches together, and some rows of one.

A batch whose rows begin and end at different times keeps its rows flush right: a shorter one has empty columns on its
left, which the attention mask hides.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mopref.conditioning.cache_mark import CACHE_NAMES

__all__ = ["cache_of", "cache_option", "is_joinable", "joined_rows", "kept_rows"]


def cache_option(base: nn.Module) -> str:
    """Under which name a model's forward takes a cache.

    Raises:
        ValueError: it takes none.
    """
    known = inspect.signature(base.forward).parameters
    name = next((name for name in CACHE_NAMES if name in known), None)
    if name is None:
        raise ValueError(
            f"{type(base).__name__} takes no cache of keys and values, so that each token would cost a whole forward: "
            "serve a causal language model of transformers."
        )
    return name


def cache_of(output: Any) -> Any:
    """The cache that a forward returned.

    Raises:
        ValueError: it returned none.
    """
    entries = getattr(output, "__dict__", {})
    cache = next((entries[name] for name in CACHE_NAMES if entries.get(name) is not None), None)
    if cache is None:
        raise ValueError(f"a {type(output).__name__} came back without a cache of keys and values.")
    return cache


def is_joinable(cache: Any) -> bool:
    """Whether rows can be put into this cache and taken out: it holds keys and values of all tokens, and nothing else.

    A sliding window, a state of a recurrent layer or quantised values are none.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def joined_rows(first: Any, second: Any) -> Any:
    """The rows of two caches in one, the first's first; the one with fewer columns gets empty ones on its left."""
    columns = max(first.get_seq_length(), second.get_seq_length())

    def widened(part: Tensor) -> Tensor:
        return nn.functional.pad(part, (0, 0, columns - part.shape[-2], 0))

    pairs = zip(_layers(first), _layers(second), strict=True)
    return _made(
        tuple(torch.cat([widened(own), widened(other)]) for own, other in zip(one, two, strict=True))
        for one, two in pairs
    )


def kept_rows(cache: Any, rows: Tensor, columns: int) -> Any:
    """Some rows of a cache, in their order, and so many of its last columns."""

    def kept(part: Tensor) -> Tensor:
        return part[:, :, part.shape[-2] - columns :].index_select(0, rows)

    return _made(_each(kept, layer) for layer in _layers(cache))


def _each(change: Callable[[Tensor], Tensor], layer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return change(layer[0]), change(layer[1])


def _layers(cache: Any) -> Iterator[tuple[Tensor, Tensor]]:
    return ((layer.keys, layer.values) for layer in cache.layers)


def _made(layers: Iterator[tuple[Tensor, ...]]) -> Any:
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache()
    for number, (keys, values) in enumerate(layers):
        cache.update(keys, values, number)
    return cache
