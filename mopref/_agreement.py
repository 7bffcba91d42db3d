"""Several processes of one run that end together: an error on one is told on all, so that none waits for another."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["NotFiniteElsewhereError", "ended_together"]


class NotFiniteElsewhereError(FloatingPointError):
    """A number that is not finite on another process of the run."""


@contextmanager
def ended_together() -> Iterator[None]:
    """Within this block an error on one process of a run ends all of them; all have to come to its end.

    Raises:
        NotFiniteElsewhereError: on another process it was a ``FloatingPointError``.
        RuntimeError: on another process it was any other error.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
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
            kind = NotFiniteElsewhereError if is_number else RuntimeError
            raise kind(f"on another process, number {process}: {told.rstrip('.')}.")


def _told_by_all(told: str | None, is_number: bool) -> list[tuple[str | None, bool]]:
    shares: list[tuple[str | None, bool]] = [(None, False)] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, (told, is_number))
    return shares
