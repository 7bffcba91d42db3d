"""The global random generators go on where they were, also from a checkpoint on disk."""

import random

import numpy as np
import torch

from mopref.training.checkpoint import load_state, save_state
from mopref.training.random_state import random_state, set_random_state


def draws():
    return random.random(), np.random.rand(), np.random.randn(), random.gauss(0, 1), torch.rand(2).tolist()  # noqa: NPY002


def test_generators_continue_from_memory():
    state = random_state()
    first = draws()
    assert draws() != first
    set_random_state(state)
    assert draws() == first


def test_generators_continue_from_disk(tmp_path):
    save_state(random_state(), tmp_path)
    first = draws()
    set_random_state(load_state(tmp_path))
    assert draws() == first


def test_half_a_pair_of_normal_numbers_is_part_of_the_state(tmp_path):
    """Python's and NumPy's normal numbers come in pairs: the second one waits."""
    random.gauss(0, 1)
    np.random.randn()  # noqa: NPY002
    save_state(random_state(), tmp_path)
    first = random.gauss(0, 1), np.random.randn()  # noqa: NPY002
    random.gauss(0, 1)
    set_random_state(load_state(tmp_path))
    assert (random.gauss(0, 1), np.random.randn()) == first  # noqa: NPY002


def test_asking_changes_nothing():
    state = random_state()
    again = random_state()
    assert torch.equal(state.pop("torch"), again.pop("torch"))
    assert [part.tolist() for part in state.pop("cuda")] == [part.tolist() for part in again.pop("cuda")]
    assert state == again


def test_the_generators_of_gpus_may_be_left_out():
    assert random_state(devices=False)["cuda"] == []
