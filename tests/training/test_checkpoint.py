"""Nested states survive the disk, and an interrupted write leaves nothing that looks complete."""

import random

import numpy as np
import pytest
import torch

from mopref.training.checkpoint import load_state, random_state, replace_folder, save_state, set_random_state


def test_nested_state_round_trip(tmp_path):
    shared = torch.arange(6.0).view(2, 3)
    state = {
        "tensors": [shared, shared.T, torch.tensor(3, dtype=torch.int64), torch.empty(0)],
        "state": {0: {"step": torch.tensor(2.0)}, 7: None},
        "betas": (0.9, 0.999),
        "text": "λ",
        "flag": True,
        "big": 2**100,
        "dict": {"tensor": "not a tensor", "list": [1, [2]]},
    }
    save_state(state, tmp_path)
    loaded = load_state(tmp_path)
    for mine, theirs in zip(state["tensors"], loaded["tensors"], strict=True):
        assert torch.equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    assert torch.equal(loaded["state"][0]["step"], torch.tensor(2.0))
    assert loaded["state"][7] is None
    for key in ("betas", "text", "flag", "big", "dict"):
        assert loaded[key] == state[key]
    assert isinstance(loaded["betas"], tuple)


def test_unknown_value_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"state\.bad is a set"):
        save_state({"bad": {1, 2}}, tmp_path)


def test_incomplete_folder_is_refused(tmp_path):
    save_state({"a": torch.ones(1)}, tmp_path)
    (tmp_path / "state.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"state\.safetensors"):
        load_state(tmp_path)


def test_interrupted_write_keeps_the_old_folder(tmp_path):
    target = tmp_path / "checkpoint-1"
    with replace_folder(target) as folder:
        (folder / "file").write_text("old")

    def interrupted():
        with replace_folder(target) as folder:
            (folder / "file").write_text("new")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted()
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_random_generators_continue(tmp_path):
    save_state(random_state(), tmp_path)

    def draws():
        return random.random(), np.random.rand(), random.gauss(0, 1), torch.rand(2).tolist()  # noqa: NPY002

    first = draws()
    set_random_state(load_state(tmp_path))
    assert draws() == first
