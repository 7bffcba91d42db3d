"""A module of a model that does something else for a while, in its place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["replaced_forward"]


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within this block a module has another forward, and afterwards, also after an error, the one before.

    It stays in its place with its attributes, by which models choose masks and positions, and with its hooks, by which
    what shards a model gathers its weights.
    """
    # An attribute of the instance goes before the method of its class.
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before
