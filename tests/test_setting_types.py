"""Settings of whatever library become Python's own, and another type is refused with the setting's name."""

import math

import numpy as np
import pytest
import torch

from mopref.setting_types import checked_seed, python_value, python_values, set_python_values


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
