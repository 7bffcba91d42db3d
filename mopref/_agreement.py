"""Several processes of one run that end together: an error on one is told on all, so that none waits for another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["ElsewhereError", "NotFiniteElsewhereError", "ended_together", "gathered_objects", "is_first_process"]

_Of = TypeVar("_Of")


class NotFiniteElsewhereError(FloatingPointError):
    """A number that is not finite on another process of the run."""


class ElsewhereError(RuntimeError):
    """An error on another process of the run."""


def _are_several() -> bool:
    is_set_up = torch.distributed.is_available() and torch.distributed.is_initialized()
    return is_set_up and torch.distributed.get_world_size() > 1


def is_first_process() -> bool:
    """Whether this process is the one of the run that writes its files."""
    return not _are_several() or torch.distributed.get_rank() == 0


def gathered_objects(own: _Of) -> list[_Of]:
    """What each process of a run has, in their order; all have to ask."""
    if not _are_several():
        return [own]
    everyone = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, own)
    return everyone


@contextmanager
def ended_together() -> Iterator[None]:
    """Within this block an error on one process of a run ends all of them; all have to come to its end.

    Raises:
        NotFiniteElsewhereError: on another process it was a ``FloatingPointError``.
        ElsewhereError: on another process it was any other error.
    """
    if not _are_several():
        yield
        return
    try:
        yield
    except Exception as error:
        _told_by_all(f"{type(error).__name__}: {error}", isinstance(error, FloatingPointError))
        raise
    others = _told_by_all(None, False)
    for process, (told, is_number) in enumerate(others):
        if told is not None:
            kind = NotFiniteElsewhereError if is_number else ElsewhereError
            raise kind(f"on another process, number {process}: {told.rstrip('.')}.")


def _told_by_all(told: str | None, is_number: bool) -> list[tuple[str | None, bool]]:
    return gathered_objects((told, is_number))
