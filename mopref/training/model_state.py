"""A model that is changed for the time of its training, and afterwards is as it came."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["forward_in_force", "unprepared"]

# What accelerate puts into a module that it prepares: a forward in mixed precision, the one before it, and a mark, by
# which another accelerator would leave the module as the first one made it.
_FORWARD, _FORWARD_BEFORE, _MARK = "forward", "_original_forward", "_is_accelerate_prepared"


@contextmanager
def unprepared(module: nn.Module) -> Iterator[None]:
    """Within this block the module is as if no accelerator had prepared it; afterwards as before, whatever is put in.

    Left there, every later use of the model would run in the precision of the training that is over: another
    training's, an evaluation's, or a reference's.
    """
    own = {name: vars(module).pop(name) for name in (_FORWARD, _FORWARD_BEFORE, _MARK) if name in vars(module)}
    forward = own.get(_FORWARD_BEFORE, own.get(_FORWARD))
    try:
        with forward_in_force(module, forward):
            yield
    finally:
        for name in (_FORWARD_BEFORE, _MARK):
            vars(module).pop(name, None)
        vars(module).update(own)


@contextmanager
def forward_in_force(module: nn.Module, forward: Callable[..., Any] | None) -> Iterator[None]:
    """Within this block the module's forward is another one; ``None`` for its own, as it is."""
    own = vars(module).get(_FORWARD)
    if forward is not None:
        vars(module)[_FORWARD] = forward
    try:
        yield
    finally:
        vars(module).pop(_FORWARD, None)
        if own is not None:
            vars(module)[_FORWARD] = own
