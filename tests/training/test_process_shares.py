"""One checkpoint of several processes; two real ones: test_processes_resumed.py."""

import warnings

import pytest
import torch

from mopref.training import process_shares
from mopref.training.process_shares import begin_anew, share_of, tell_other_processes, whole_state
from mopref.training.random_state import kept_random_state


def state(process: int) -> dict:
    own = {name: [name, process] for name in ("objective", "unlogged", "callbacks", "random")}
    return {"step": 3, "model": {"weight": torch.ones(2)}, "pending": [[torch.full((1,), process)]], **own}


@pytest.fixture
def two(monkeypatch):
    other = {name: value for name, value in state(1).items() if name not in ("step", "model")}
    monkeypatch.setattr(process_shares, "gathered_objects", lambda own: [own, other])


def test_a_checkpoint_of_one_process_is_its_state():
    assert whole_state(state(0)).keys() == state(0).keys()
    assert share_of(state(0), 0, 1, "folder").keys() == state(0).keys()


def test_each_process_has_its_own_parts_again(two):
    saved = whole_state(state(0))
    assert repr(share_of(saved, 0, 2, "folder")) == repr(state(0))
    assert repr(share_of(saved, 1, 2, "folder")) == repr(state(1))


@pytest.mark.parametrize("processes", [1, 3])
def test_another_number_draws_anew_what_waited(processes, two):
    for process in range(processes):
        share = share_of(whole_state(state(0)), process, processes, "folder")
        assert share["pending"] == [[]]
        assert share["objective"] == ["objective", 0]
        assert "other_processes" not in share


@pytest.mark.parametrize("others", [{}, [3], [{"pending": []}]])
def test_parts_that_are_none_are_refused(others):
    with pytest.raises(ValueError, match="folder is a damaged checkpoint: its 'other_processes' are not those"):
        share_of({**state(0), "other_processes": others}, 0, 2, "folder")


def test_another_number_is_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not tell_other_processes({"processes": 2}, 2, "folder")
        assert not tell_other_processes({}, 1, "folder")
    with pytest.warns(UserWarning, match="folder was written by 2 processes, and here are 4: the run goes on"):
        assert tell_other_processes({"processes": 2}, 4, "folder")


def test_generators_begin_anew_in_the_same_way():
    with kept_random_state():
        drawn = []
        for step, process in ((3, 0), (3, 0), (6, 0), (3, 1)):
            begin_anew(2**32 - 1, step, process)
            drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3
