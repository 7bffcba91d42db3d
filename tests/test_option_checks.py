"""Checks of points and numbers: what passes is copied or returned, what does not is named."""

import math

import pytest
import torch
from _tensors import DEVICE, tensor

from mopref.option_checks import (
    check_length,
    check_order,
    checked_convention,
    checked_epsilon,
    checked_non_negative,
    checked_positive,
    checked_recorded_convention,
    given_point,
    matching_point,
)


@pytest.mark.parametrize("point", [[1, 2], (1.0, 2.0), torch.tensor([1, 2]), torch.tensor([1.0, 2.0])])
def test_a_point_is_float64_on_the_cpu(point):
    vector = given_point(point, "ideal")
    assert vector.dtype == torch.float64
    assert vector.tolist() == [1.0, 2.0]


def test_a_point_is_a_copy_without_a_graph():
    point = torch.tensor([1.0, 2.0], dtype=torch.float64)
    vector = given_point(point, "ideal")
    point += 1
    assert vector.tolist() == [1.0, 2.0]
    assert not given_point(tensor([1.0, 2.0]).requires_grad_(), "ideal").requires_grad


@pytest.mark.parametrize("point", [3.0, [], [[1.0, 2.0]], [1.0, math.nan], [math.inf, 1.0]])
def test_what_is_no_finite_vector_raises(point):
    with pytest.raises(ValueError, match=r"nadir is .*: give one finite number per objective"):
        given_point(point, "nadir")


def test_a_point_matches_the_losses():
    losses = tensor([[1.0, 2.0]], torch.float32)
    point = matching_point(torch.zeros(2, dtype=torch.float64), losses, "ideal point")
    assert point.dtype == torch.float32
    assert point.device.type == DEVICE.type
    with pytest.raises(ValueError, match="the ideal point has 3 numbers, but there are 2 losses"):
        matching_point(torch.zeros(3), losses, "ideal point")


def test_a_nadir_point_lies_above_an_ideal_point():
    check_order(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"nadir's entry 1 is 1, not above ideal's 1"):
        check_order(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]))
    with pytest.raises(ValueError, match="ideal has 2 numbers and nadir 1"):
        check_order(torch.tensor([0.0, 1.0]), torch.tensor([1.0]))


def test_numbers():
    assert checked_non_negative(0.0, "theta", "it is a price") == 0.0
    assert checked_epsilon(0.5) == 0.5
    for value in (-0.5, math.nan):
        with pytest.raises(ValueError, match=f"theta is {value}: it is a price, so it must be ≥ 0"):
            checked_non_negative(value, "theta", "it is a price")
    for value in (0.0, -0.5, math.nan):
        with pytest.raises(ValueError, match=f"epsilon is {value}: .* so it must be > 0"):
            checked_epsilon(value)


@pytest.mark.parametrize("convention", ["rays", "", None, math.nan, True])
def test_a_word_that_names_no_convention_raises(convention):
    with pytest.raises(ValueError, match=r"convention is .*: choose 'importance', .* or 'ray', .*"):
        checked_convention(convention)


def test_a_recorded_convention_may_be_unknown():
    for convention in ("importance", "ray", "unrecorded"):
        assert checked_recorded_convention(convention) == convention
    for word in ("Ray", "", None, 1, ["ray"], torch.tensor([1.0, 2.0])):
        with pytest.raises(ValueError, match=r"^told is .*: choose 'importance'.*'ray'.*or 'unrecorded' where nobody"):
            checked_recorded_convention(word, "told")


def test_a_point_has_a_number_for_each_objective():
    check_length(torch.zeros(2), 2, "ideal")
    check_length(None, 2, "ideal")
    with pytest.raises(ValueError, match="ideal has 3 numbers, but there are 2 objectives: give one for each"):
        check_length(torch.zeros(3), 2, "ideal")


def test_options_are_finite_numbers_of_pythons_own():
    assert type(checked_non_negative(torch.tensor(3), "theta", "it is a price")) is float
    for check in (checked_non_negative, checked_positive):
        with pytest.raises(ValueError, match=r"theta is inf: it is a price.* and finite"):
            check(math.inf, "theta", "it is a price")
        with pytest.raises(TypeError, match="theta is '5', of type str: give a number"):
            check("5", "theta", "it is a price")
    with pytest.raises(ValueError, match=r"mu is 0\.0: it is divided by\."):
        checked_positive(0, "mu", "it is divided by")
