"""Processes that end together; two real ones do in tests/training/test_distributed.py."""

import pytest
import torch

from mopref._agreement import (
    ElsewhereError,
    NotFiniteElsewhereError,
    ended_together,
    gathered_objects,
    is_first_process,
)


def other_process_says(share, monkeypatch):
    """A second process whose share of each exchange this is; what this one gave."""
    given = []

    def exchange(shares, own):
        given.append(own)
        shares[:] = [own, share]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", exchange)
    return given


def test_one_process_has_nobody_to_tell():
    with ended_together():
        pass
    with pytest.raises(KeyError, match="x"), ended_together():
        raise KeyError("x")


def test_an_error_is_told_and_stays_what_it_is(monkeypatch):
    given = other_process_says(("ValueError: another.", False), monkeypatch)
    with pytest.raises(KeyError, match="x"), ended_together():
        raise KeyError("x")
    with pytest.raises(FloatingPointError, match=r"^nan$"), ended_together():
        raise FloatingPointError("nan")
    assert given == [("KeyError: 'x'", False), ("FloatingPointError: nan", True)]


@pytest.mark.parametrize("is_number", [False, True])
def test_an_error_of_another_process_ends_this_one(is_number, monkeypatch):
    given = other_process_says(("ValueError: it is so.", is_number), monkeypatch)
    kind = NotFiniteElsewhereError if is_number else ElsewhereError
    with pytest.raises(kind, match=r"^on another process, number 1: ValueError: it is so\.$"), ended_together():
        pass
    assert given == [(None, False)]


def test_where_all_is_well_nothing_happens(monkeypatch):
    given = other_process_says((None, False), monkeypatch)
    with ended_together():
        pass
    assert given == [(None, False)]


def test_each_has_what_all_have(monkeypatch):
    assert gathered_objects({"own": 1}) == [{"own": 1}]
    given = other_process_says({"other": 2}, monkeypatch)
    assert gathered_objects({"own": 1}) == [{"own": 1}, {"other": 2}]
    assert given == [{"own": 1}]


@pytest.mark.parametrize("rank", [0, 1])
def test_one_process_writes(rank, monkeypatch):
    assert is_first_process()
    other_process_says(None, monkeypatch)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    assert is_first_process() == (rank == 0)
