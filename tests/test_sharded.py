"""Sharded tensors; real ones: tests/training/test_sharding.py."""

import torch

from mopref import _sharded
from mopref._sharded import is_sharded, whole_tensor, written_once


class Part:
    def full_tensor(self):
        return torch.ones(3)


def test_a_tensor_that_is_whole_stays_itself():
    tensor = torch.ones(2)
    assert whole_tensor(tensor) is tensor
    assert not is_sharded(tensor)


def test_parts_are_put_together():
    assert is_sharded(Part())
    assert torch.equal(whole_tensor(Part()), torch.ones(3))


def test_whoever_asks_writes_what_is_whole():
    with written_once([torch.ones(2)]) as writes:
        assert writes


def test_one_process_writes_what_is_sharded(monkeypatch):
    monkeypatch.setattr(_sharded, "is_first_process", lambda: False)
    with written_once([torch.ones(2), Part()]) as writes:
        assert not writes


def test_nobody_writes_while_another_still_looks(monkeypatch):
    waited = []
    monkeypatch.setattr(_sharded, "gathered_objects", waited.append)
    with written_once([torch.ones(2)]):
        assert waited == []
    with written_once([Part()]):
        assert waited == [None]
