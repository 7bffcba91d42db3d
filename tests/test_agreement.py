"""Processes that end together; two real ones do in tests/training/test_distributed.py."""

import pytest
import torch

from mopref import _agreement
from mopref._agreement import (
    ElsewhereError,
    NotFiniteElsewhereError,
    ended_together,
    gathered_objects,
    is_first_process,
    is_first_to_tell,
    join_processes,
    launched_processes,
    made_by_first,
    made_in_turns,
    process_count,
)


class Given(list):
    def __init__(self):
        super().__init__()
        self.groups = []


def other_process_says(share, monkeypatch):
    """A second process whose share of each exchange this is; what this one gave, and in which groups."""
    given = Given()

    def exchange(shares, own, group):
        given.append(own)
        given.groups.append(group)
        shares[:] = [own, share]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", exchange)
    monkeypatch.setattr(_agreement, "_patient_group", lambda: "patient")
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
    assert given.groups == [None], "as long as PyTorch waits"


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


def test_what_the_first_makes_all_have(monkeypatch):
    made = {"a": 1}
    assert made_by_first(lambda: made) is made
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    given = other_process_says((None, False), monkeypatch)
    assert made_by_first(lambda: made) is made, "its own, not a copy"
    assert made_by_first(lambda: None) is None
    assert given.groups == ["patient", None] * 2, "the others wait for what it makes"


def test_another_process_makes_nothing_and_gets_what_the_first_made(monkeypatch):
    exchanged = iter([[(None, False), (None, False)], [{"a": 1}, None]])
    other_process_says(None, monkeypatch)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(
        torch.distributed,
        "all_gather_object",
        lambda shares, own, group: shares.__setitem__(slice(None), next(exchanged)),
    )
    assert made_by_first(lambda: pytest.fail("it is not the first")) == {"a": 1}


@pytest.mark.parametrize(("place", "turn"), [("0", 1), ("1", 2)])
def test_the_first_of_a_machine_makes_its_own_before_the_others(place, turn, monkeypatch):
    given = other_process_says((None, False), monkeypatch)
    monkeypatch.setenv("LOCAL_RANK", place)
    assert made_in_turns(lambda: len(given) + 1) == turn
    assert given.groups == ["patient"] * 2
    with pytest.raises(KeyError):
        made_in_turns(lambda: {}["x"])
    assert [told for told, _ in given[2:]] == [None] * (turn - 1) + ["KeyError: 'x'"], "nobody waits for another turn"


def test_a_launcher_is_known_by_all_that_it_says(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched_processes() == process_count() == 1, "a cluster says so of its jobs, too"
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert launched_processes() == 2


def test_one_process_tells_of_an_error(monkeypatch):
    monkeypatch.setattr(_agreement, "_has_word", None)
    assert is_first_to_tell(KeyError("x"))
    elsewhere = ValueError("a checkpoint")
    elsewhere.__cause__ = ElsewhereError("on another process, number 1: …")
    assert not is_first_to_tell(elsewhere), "the other one tells"
    assert is_first_to_tell(), "and this one of its own"


@pytest.mark.parametrize("place", ["0", "1"])
def test_before_they_are_connected_the_first_tells(place, monkeypatch):
    for name, value in (("RANK", place), ("LOCAL_RANK", place), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_agreement, "_has_word", None)
    assert is_first_to_tell() == (place == "0")


@pytest.mark.parametrize(("asked", "tells"), [(1, True), (2, False), (None, False)])
def test_of_several_the_first_that_asks_tells_and_stays_it(asked, tells, monkeypatch):
    class Words:
        def add(self, key, count):
            if asked is None:
                raise RuntimeError("the connection is closed")
            return asked

    monkeypatch.setattr(_agreement, "_has_word", None)
    monkeypatch.setattr(_agreement, "_words", Words())
    assert is_first_to_tell() == tells
    monkeypatch.setattr(_agreement, "_words", None)
    assert is_first_to_tell() == tells


def test_one_process_joins_nobody():
    join_processes()
    assert not torch.distributed.is_initialized()
