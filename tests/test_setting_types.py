"""Settings of whatever library become Python's own, and another type is refused with the setting's name."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mopref.setting_types import checked_count, checked_seed, python_value, python_values, set_python_values


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (4, int, 4),
        (np.int64(4), int, 4),
        (np.uint8(4), int, 4),
        (np.array(4), int, 4),
        (torch.tensor(4), int, 4),
        (0.5, float, 0.5),
        (np.float32(0.5), float, 0.5),
        (np.float16(0.5), float, 0.5),
        (np.int64(1), float, 1.0),
        (1, float, 1.0),
        (torch.tensor(0.5, dtype=torch.bfloat16), float, 0.5),
        (True, bool, True),
        (np.bool_(False), bool, False),
        (np.str_("linear"), str, "linear"),
    ],
)
def test_values_become_pythons_own(value, kind, expected):
    plain = python_value(value, kind, "setting")
    assert type(plain) is kind
    assert plain == expected


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        ("3", int, "a whole number"),
        (3.0, int, "a whole number"),
        (np.float64(3.0), int, "a whole number"),
        (math.nan, int, "a whole number"),
        (True, int, "a whole number"),
        (np.bool_(True), int, "a whole number"),
        (None, int, "a whole number"),
        ([3], int, "a whole number"),
        (np.array([3]), int, "a whole number"),
        ("0.1", float, "a number"),
        (True, float, "a number"),
        (1j, float, "a number"),
        (None, float, "a number"),
        (1, bool, "True or False"),
        ("no", bool, "True or False"),
        (None, bool, "True or False"),
        (3, str, "a text"),
        (b"linear", str, "a text"),
    ],
)
def test_another_type_is_refused_by_name(value, kind, wanted):
    with pytest.raises(TypeError, match=rf"setting is .*, of type {type(value).__name__}: give {wanted}"):
        python_value(value, kind, "setting")


def test_a_number_that_no_float_holds_is_named():
    with pytest.raises(ValueError, match="setting is too large for a floating-point number"):
        python_value(10**400, float, "setting")


def test_a_tensor_without_numbers_and_a_long_list_are_told_shortly():
    with pytest.raises(TypeError, match=r"setting is .*, of type Tensor: give a number"):
        python_value(torch.tensor(1.0, device="meta"), float, "setting")
    with pytest.raises(TypeError, match=r"setting is .*, of type list: give a whole number") as error:
        python_value(list(range(10**6)), int, "setting")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "values", [[0, -1], (0, -1), np.array([0, -1]), torch.tensor([0, -1]), range(0, -2, -1), iter([0, np.int8(-1)])]
)
def test_lists_become_tuples_of_pythons_own(values):
    plain = python_values(values, int, "layers")
    assert plain == (0, -1)
    assert all(type(value) is int for value in plain)


@pytest.mark.parametrize("values", [0, None, "01", b"01", {0: 1}, np.array(0), torch.tensor(0), 1.5])
def test_what_is_no_list_is_refused_by_name(values):
    with pytest.raises(TypeError, match=r"layers is .*: give a list of whole numbers"):
        python_values(values, int, "layers")


def test_an_entry_of_another_type_is_refused_by_its_place():
    with pytest.raises(TypeError, match=r"layers\[1\] is '1', of type str: give a whole number"):
        python_values([0, "1"], int, "layers")


def test_fields_of_frozen_settings_become_pythons_own():
    @dataclass(frozen=True)
    class Settings:
        steps: int
        rate: float

        def __post_init__(self):
            set_python_values(self, int, "steps")
            set_python_values(self, float, "rate")

    settings = Settings(np.int64(3), 1)
    assert (type(settings.steps), type(settings.rate)) == (int, float)
    with pytest.raises(TypeError, match="rate is None, of type NoneType: give a number"):
        Settings(3, None)


@pytest.mark.parametrize("seed", [0, -1, 2**64 - 1, -(2**63)])
def test_seeds_that_pytorch_takes(seed):
    assert checked_seed(np.array(seed, dtype=object)) == seed
    torch.Generator().manual_seed(checked_seed(seed))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_seeds_out_of_range(seed):
    with pytest.raises(ValueError, match=f"seed is {seed}: it must be at least −2⁶³ and less than 2⁶⁴"):
        checked_seed(seed)


def test_a_count_is_1_at_least():
    assert checked_count(np.int64(3), "batch_size") == 3
    for count in (0, -4):
        with pytest.raises(ValueError, match=f"batch_size is {count}: it must be at least 1"):
            checked_count(count, "batch_size")
    with pytest.raises(TypeError, match="batch_size is '4', of type str: give a whole number"):
        checked_count("4", "batch_size")
