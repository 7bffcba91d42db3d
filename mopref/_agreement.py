"""Several processes of one run that end together: an error on one is told on all, so that none waits for another."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch

__all__ = [
    "ElsewhereError",
    "NotFiniteElsewhereError",
    "ended_together",
    "gathered_objects",
    "is_first_process",
    "is_first_to_tell",
    "join_processes",
    "launched_processes",
    "made_by_first",
    "made_in_turns",
    "process_count",
]

_Of = TypeVar("_Of")

# How long one may wait for another that downloads, computes references or measures a front; elsewhere as long as
# PyTorch says. One that is dead is noticed at once, since its connection ends; this is for one that hangs.
_PATIENCE = timedelta(days=1)
# The group that waits so long, beside the one it was made for.
_patient: tuple[Any, Any] = (None, None)
# Where the processes of a launcher leave word, and whether this one has the word.
_words: Any = None
_has_word: bool | None = None


class NotFiniteElsewhereError(FloatingPointError):
    """A number that is not finite on another process of the run."""


class ElsewhereError(RuntimeError):
    """An error on another process of the run."""


def _are_several() -> bool:
    is_set_up = torch.distributed.is_available() and torch.distributed.is_initialized()
    return is_set_up and torch.distributed.get_world_size() > 1


def launched_processes() -> int:
    """How many processes a launcher (``torchrun``, ``accelerate launch``) says there are; 1 without one."""
    is_one_of_them = {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if is_one_of_them else 1


def join_processes() -> None:
    """Connect the processes that a launcher started; nothing where there is one, or where they are connected already.

    Raises:
        RuntimeError: the others do not come.
    """
    global _words
    if launched_processes() == 1 or not torch.distributed.is_available() or torch.distributed.is_initialized():
        return
    store, process, processes = next(torch.distributed.rendezvous("env://", timeout=timedelta(minutes=30)))
    _words = torch.distributed.PrefixStore("mopref", store)
    # Both, since a recipe says only later where its model goes.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    own = torch.distributed.PrefixStore("group", store)
    torch.distributed.init_process_group(backend, store=own, rank=process, world_size=processes)


def process_count() -> int:
    """How many processes the run has."""
    return torch.distributed.get_world_size() if _are_several() else 1


def is_first_process() -> bool:
    """Whether this process is the one of the run that writes its files."""
    return not _are_several() or torch.distributed.get_rank() == 0


def is_first_to_tell(error: BaseException | None = None) -> bool:
    """Whether this process is the one that tells the user of an error, of which several or all may have one.

    The first that asks is, and stays it; never one that has it of another process.
    """
    global _has_word
    cause = error
    while cause is not None:
        if isinstance(cause, ElsewhereError | NotFiniteElsewhereError):
            return False
        cause = cause.__cause__
    if _has_word is None:
        if _words is None:
            _has_word = launched_processes() == 1 or os.environ["RANK"] == "0"
        else:
            try:
                _has_word = _words.add("told", 1) == 1
            except RuntimeError:
                # The one that keeps the words has ended, which the launcher tells.
                _has_word = False
    return _has_word


def gathered_objects(own: _Of, is_patient: bool = False) -> list[_Of]:
    """What each process of a run has, in their order; all have to ask.

    Args:
        own: what this one has.
        is_patient: whether one may work for long before it asks.
    """
    if not _are_several():
        return [own]
    everyone = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, own, group=_patient_group() if is_patient else None)
    return everyone


def _patient_group() -> Any:
    """A group of all processes on their CPUs in which one may wait long for another; made when all first ask."""
    global _patient
    world = torch.distributed.group.WORLD
    if _patient[0] is not world:
        backend = "gloo" if torch.distributed.is_gloo_available() else None
        _patient = (world, torch.distributed.new_group(backend=backend, timeout=_PATIENCE))
    return _patient[1]


def made_by_first(make: Callable[[], _Of]) -> _Of:
    """What the first process makes, on all, however long it takes; an error there ends all."""
    with ended_together(is_patient=True):
        own = make() if is_first_process() else None
    made: Any = gathered_objects(own)[0]
    # Its own, not a copy of it.
    return made if own is None else own


def made_in_turns(make: Callable[[], _Of]) -> _Of:
    """What each process makes for itself: the first of a machine before the others, which find its files in the caches.

    However long it takes; an error of one ends all.
    """
    made, goes_first = None, not _are_several() or os.environ.get("LOCAL_RANK", "0") == "0"
    with ended_together(is_patient=True):
        if goes_first:
            made = make()
    with ended_together(is_patient=True):
        if not goes_first:
            made = make()
    assert made is not None
    return made


@contextmanager
def ended_together(is_patient: bool = False) -> Iterator[None]:
    """Within this block an error on one process of a run ends all of them; all have to come to its end.

    Args:
        is_patient: whether one may work for long in it.

    Raises:
        NotFiniteElsewhereError: on another process it was a ``FloatingPointError``.
        ElsewhereError: on another process it was any other error.
    """
    if not _are_several():
        yield
        return
    if is_patient:
        # Before one is at work, since the others would wait for it here.
        _patient_group()
    try:
        yield
    except Exception as error:
        gathered_objects((f"{type(error).__name__}: {error}", isinstance(error, FloatingPointError)), is_patient)
        raise
    others: list[tuple[str | None, bool]] = gathered_objects((None, False), is_patient)
    for process, (told, is_number) in enumerate(others):
        if told is not None:
            kind = NotFiniteElsewhereError if is_number else ElsewhereError
            raise kind(f"on another process, number {process}: {told.rstrip('.')}.")
