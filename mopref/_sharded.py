"""Tensors whose parts lie on several processes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor

from mopref._agreement import ended_together, gathered_objects, is_first_process

__all__ = ["is_sharded", "whole_tensor", "written_once"]


def is_sharded(value: Tensor) -> bool:
    """Whether a tensor is one of several processes (a ``DTensor``), each of which holds a part."""
    return hasattr(value, "full_tensor")


def whole_tensor(value: Tensor) -> Tensor:
    """A sharded tensor put together, for which every process has to ask; any other as it is."""
    full: Callable[[], Tensor] | None = getattr(value, "full_tensor", None)
    return value if full is None else full()


@contextmanager
def written_once(parameters: Iterable[Tensor]) -> Iterator[bool]:
    """Whether this process is to write within the block: where parameters are sharded, the first one alone.

    The others wait for it then, and end with an error where it has one. Where none is sharded, whoever asks writes.
    """
    if not any(map(is_sharded, parameters)):
        yield True
        return
    # Until all are here, one may still look at what is there, and has to see what the others saw.
    gathered_objects(None)
    with ended_together():
        yield is_first_process()
