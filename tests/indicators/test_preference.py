"""Indicators of agreement between preferences and values: by hand, and under scalarizers."""

import math
import re

import numpy as np
import pytest
from _tensors import tensor

from mopref.indicators import cross_angle, inner_product, preference_regret, scalarizer_cross_angle, scalarizer_regret
from mopref.scalarizer import IdealPointScalarizer
from mopref.scalarizers import PBI, Linear, ModifiedTchebycheff, Tchebycheff
from mopref.scalarizers.achievement import AchievementScalarizing


def test_inner_product_by_hand():
    preferences, values = [[0.25, 0.75], [1.0, 0.0]], [[4.0, 8.0], [2.0, 100.0]]
    assert inner_product(preferences, values, maximize=True) == (1 + 6 + 2) / 2
    assert inner_product(preferences, values) == -(1 + 6 + 2) / 2
    assert inner_product(preferences, values, maximize=[True, False]) == (1 - 6 + 2) / 2


def test_inner_product_of_more_rows_than_objectives_and_of_fractions():
    """(1/4 + 3/8), 1/2 and 2: a mean over three rows, none of them rounded."""
    preferences, values = [[0.25, 0.75], [1.0, 0.0], [0.0, 1.0]], [[1.0, 0.5], [0.5, 9.0], [9.0, 2.0]]
    assert inner_product(preferences, values, maximize=True) == pytest.approx(3.125 / 3)
    assert inner_product(preferences, values) == pytest.approx(-3.125 / 3)


def test_cross_angle_by_hand():
    assert cross_angle([[2.0, 3.0]], [[1.0, 1.0]], [1.0, 2.0]) == pytest.approx(0.0, abs=1e-12)
    assert cross_angle([[1.0, 0.0], [1.0, math.sqrt(3)]], [[0.0, 9.0], [1.0, 0.0]], [0, 0]) == pytest.approx(75.0)
    # An arc cosine of the rounded cosine would give 0 here.
    assert cross_angle([[1.0, 1e-9]], [[1.0, 0.0]], [0, 0]) == pytest.approx(math.degrees(1e-9), rel=1e-6)


def test_cross_angle_refuses_what_has_no_direction():
    with pytest.raises(ValueError, match=r"row 1.*lower ideal point"):
        cross_angle([[1.0, 1.0], [0.5, 0.0]], [[1, 1], [1, 1]], [0.5, 0.0])
    with pytest.raises(ValueError, match="directions are all zero in row 0"):
        cross_angle([[1.0, 1.0]], [[0.0, 0.0]], [0, 0])
    with pytest.raises(ValueError, match="directions has inf at row 0, column 1"):
        cross_angle([[1.0, 1.0]], [[1.0, math.inf]], [0, 0])


def test_preference_regret_by_hand():
    regret = preference_regret([[1.0, 4.0], [0.5, 3.0], [5.0, 2.0]])
    assert regret.per_preference.tolist() == [0.5, 1.0]
    assert (regret.mean, regret.max) == (0.75, 1.0)
    # As many points as preferences: nothing but their own.
    assert preference_regret([[1.0, 4.0], [0.5, 3.0]]).per_preference.tolist() == [0.5, 0.0]
    assert preference_regret([1.0, 2.0], [1.5, 2.0]).per_preference.tolist() == [-0.5, 0.0]
    for wrong in ([[1.0, 2.0]], [1.0], np.empty((0, 0))):
        with pytest.raises(ValueError, match="scalarized has shape"):
            preference_regret(wrong)
    with pytest.raises(ValueError, match=r"\(2,\) and best \(1,\)"):
        preference_regret([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    "arguments",
    [
        (np.empty((3, 0)),),
        (np.empty((2, 3)),),
        (np.zeros((2, 2, 2)),),
        ([], []),
        ([[1.0]], [[1.0]]),
        (1.0, 1.0),
        ([1.0, 2.0], [1.0, 2.0, 3.0]),
    ],
    ids=lambda arguments: str([np.shape(each) for each in arguments]),
)
def test_a_regret_of_other_shapes_is_refused(arguments):
    with pytest.raises(ValueError, match="scalarized has shape"):
        preference_regret(*arguments)


def test_the_first_row_without_a_direction_is_named():
    with pytest.raises(ValueError, match="ideal point in row 1, where"):
        cross_angle([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]], [[1, 1]] * 3, [0, 0])


class AlongPreference(IdealPointScalarizer):
    """The largest shortfall; aims along λ."""

    def scalarize(self, losses, preferences):
        return (self.above_ideal(losses) / preferences).amax(dim=-1)

    def target_direction(self, preferences):
        return preferences


def test_cross_angle_of_a_scalarizer_is_seen_from_its_own_ideal_point():
    values, preferences = [[2.0, 3.0], [3.0, 2.0]], [[0.5, 0.5], [0.25, 0.75]]
    # From (1, 2): along (1, 1), which λ asked for, and along (1, 0), where λ asked for (1, 3).
    angle = scalarizer_cross_angle(values, preferences, AlongPreference(ideal=[1.0, 2.0]))
    assert angle == pytest.approx((0 + math.degrees(math.atan(3))) / 2)
    # A tracked ideal point lies a margin below what was seen.
    tracked = AlongPreference(margin=1.0)
    tracked.observe(tensor([[2.0, 4.0], [5.0, 3.0]]))
    assert scalarizer_cross_angle(values, preferences, tracked) == pytest.approx(angle)
    assert tracked.ideal_point.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("scalarizer", "convention"),
    [
        (Tchebycheff(ideal=[1, 1, 1]), "importance"),
        *(
            (kind(ideal=[1, 1, 1], convention=way), way)
            for kind in (ModifiedTchebycheff, PBI)
            for way in ("importance", "ray")
        ),
    ],
)
def test_a_value_on_the_target_has_no_angle(scalarizer, convention):
    preferences = 0.1 + 0.7 * np.random.default_rng(0).dirichlet(np.ones(3), 20)
    values = 1 + 2 * (preferences if convention == "ray" else 1 / preferences)
    assert scalarizer_cross_angle(values, preferences, scalarizer) == pytest.approx(0.0, abs=1e-6)
    assert scalarizer_cross_angle(values[::-1], preferences, scalarizer) > 10


@pytest.mark.parametrize(("convention", "up"), [("importance", (0.75, 0.25)), ("ray", (0.25, 0.75))])
def test_the_way_back_from_a_reference_point_is_the_preference_in_both_conventions(convention, up):
    """λ = (1/4, 3/4): up along 1/λ ∝ (3, 1) or along λ ∝ (1, 3), down along −λ; (1, 3) and (3, 1) are 53.13° apart."""
    scalarizer = AchievementScalarizing([1.0, 1.0], convention=convention)
    lam, between = [[0.25, 0.75]], math.degrees(2 * (math.atan(3) - math.pi / 4))
    for value in ([1 + up[0], 1 + up[1]], [1 - 0.25, 1 - 0.75]):
        assert scalarizer_cross_angle([value], lam, scalarizer) == pytest.approx(0.0, abs=1e-6)
    assert scalarizer_cross_angle([[1 + up[1], 1 + up[0]]], lam, scalarizer) == pytest.approx(between)
    assert scalarizer_cross_angle([[1 - 0.75, 1 - 0.25]], lam, scalarizer) == pytest.approx(between)


def test_from_a_reference_point_the_line_goes_both_ways():
    scalarizer = AchievementScalarizing([1.0, 1.0])
    # (2, 2) lies ahead of (1, 1) along (1, 1), (0.5, 0.5) behind it, and (2, 1) at 45 degrees.
    values, preferences = [[2.0, 2.0], [0.5, 0.5], [2.0, 1.0]], [[0.5, 0.5]] * 3
    assert scalarizer_cross_angle(values, preferences, scalarizer) == pytest.approx(45 / 3)
    assert scalarizer_cross_angle([[0.5, 0.0]], [[0.5, 0.5]], scalarizer) == pytest.approx(
        math.degrees(math.atan2(1, 0.5)) - 45
    )


def test_what_is_as_good_as_the_reference_point_in_an_objective_is_not_on_the_way_back():
    """(−1/2, 0) from the point, whose way up is (1, 1)."""
    angle = scalarizer_cross_angle([[0.5, 1.0]], [[0.5, 0.5]], AchievementScalarizing([1.0, 1.0]))
    assert angle == pytest.approx(135.0)


class UpOnly(AlongPreference):
    """Has minimisers above its point alone."""

    def backward_direction(self, preferences):
        return None


def test_where_there_is_no_way_back_all_is_seen_from_the_way_up():
    assert scalarizer_cross_angle([[0.0, 0.0]], [[0.5, 0.5]], UpOnly(ideal=[1.0, 1.0])) == pytest.approx(180.0)
    assert scalarizer_cross_angle([[0.0, 0.0]], [[0.5, 0.5]], AlongPreference(ideal=[1.0, 1.0])) == pytest.approx(0.0)


def test_cross_angle_of_a_scalarizer_that_aims_nowhere():
    with pytest.raises(ValueError, match="Linear aims in no direction"):
        scalarizer_cross_angle([[1.0, 2.0]], [[0.5, 0.5]], Linear())
    with pytest.raises(ValueError, match="AlongPreference has no ideal point to look from"):
        scalarizer_cross_angle([[1.0, 2.0]], [[0.5, 0.5]], AlongPreference())


def test_regret_under_a_scalarizer_by_hand():
    values, preferences = [[2.0, 2.0], [0.0, 4.0]], [[0.5, 0.5], [1.0, 0.0]]
    # Weighted sums of the own points: 2 and 0. The best of the known ones: 1 for the first, 0.5 for the second.
    best = [[0.5, 9.0], [1.0, 1.0], [3.0, 0.0]]
    regret = scalarizer_regret(values, preferences, Linear(), best)
    assert regret.per_preference.tolist() == [1.0, -0.5]
    assert (regret.mean, regret.max) == (0.25, 1.0)
    assert scalarizer_regret(values, preferences, Linear(), best[::-1]).per_preference.tolist() == [1.0, -0.5]
    # Among themselves: with λ = (½, ½) both points have a sum of 2.
    assert scalarizer_regret(values, preferences, Linear()).per_preference.tolist() == [0.0, 0.0]
    assert scalarizer_regret(values[::-1], preferences, Linear()).per_preference.tolist() == [0.0, 2.0]


def test_the_optimum_on_a_front_has_no_regret():
    # On f1 + f2 = 1 modified Tchebycheff's optimum as a "ray" is f = λ itself.
    weights = np.linspace(0.05, 0.95, 19)
    preferences = np.stack([weights, 1 - weights], axis=1)
    front = np.stack([np.linspace(0, 1, 401), 1 - np.linspace(0, 1, 401)], axis=1)
    scalarizer = ModifiedTchebycheff(ideal=[0, 0], convention="ray")
    assert scalarizer_regret(preferences, preferences, scalarizer, front).per_preference == pytest.approx(0, abs=1e-12)
    assert scalarizer_regret(preferences + 0.01, preferences, scalarizer, front).max == pytest.approx(0.01 / 0.05)
    # Every preference got the mirrored point: max(f1/λ1, f2/λ2) is 0.95/0.05 where 1 was possible.
    assert scalarizer_regret(preferences[::-1], preferences, scalarizer, front).max == pytest.approx(18.0)
    # As importance it is the mirrored point, with λ1 f1 = λ2 f2 = λ1 λ2; at λ itself max(λ1², λ2²) is more than it.
    importance = ModifiedTchebycheff(ideal=[0, 0])
    mirrored = scalarizer_regret(preferences[::-1], preferences, importance, front)
    assert mirrored.per_preference == pytest.approx(0, abs=1e-12)
    assert scalarizer_regret(preferences, preferences, importance, front).max == pytest.approx(0.95**2 - 0.95 * 0.05)


def test_scalarizers_and_inputs_are_left_alone():
    tracked = AlongPreference()
    tracked.observe(tensor([[0.0, 0.0]]))
    arrays = [np.array([[1.0, 2.0], [2.0, 1.0]]), np.full((2, 2), 0.5), np.array([[1.0, 1.0]])]
    copies = [array.copy() for array in arrays]
    scalarizer_regret(arrays[0], arrays[1], tracked, arrays[2])
    scalarizer_cross_angle(arrays[0], arrays[1], tracked)
    assert all((array == copy).all() for array, copy in zip(arrays, copies, strict=True))
    assert tracked.ideal_point.tolist() == [-0.01, -0.01]
    tensors = [tensor(array).requires_grad_() for array in arrays]
    expected = scalarizer_regret(*arrays[:2], tracked, arrays[2]).per_preference.tolist()
    assert scalarizer_regret(*tensors[:2], tracked, tensors[2]).per_preference.tolist() == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_and_wrong_shapes_raise(bad):
    good, weights, spoilt = [[1.0, 2.0]], [[0.5, 0.5]], [[1.0, bad]]
    scalarizer = AlongPreference(ideal=[0, 0])
    for indicator in (scalarizer_cross_angle, scalarizer_regret):
        with pytest.raises(ValueError, match=f"values has {bad} at row 0, column 1"):
            indicator(spoilt, weights, scalarizer)
        with pytest.raises(ValueError, match=f"preferences has {bad} at row 0, column 1"):
            indicator(good, spoilt, scalarizer)
        with pytest.raises(ValueError, match=r"\(1, 2\) and preferences \(2, 2\)"):
            indicator(good, weights * 2, scalarizer)
    with pytest.raises(ValueError, match=f"best_values has {bad} at row 0, column 1"):
        scalarizer_regret(good, weights, scalarizer, spoilt)
    with pytest.raises(ValueError, match=r"2 objectives .*but best_values has 3"):
        scalarizer_regret(good, weights, scalarizer, [[1.0, 2.0, 3.0]])


@pytest.mark.parametrize(("rows", "others"), [((1, 2), (2, 2)), ((2, 2), (1, 2)), ((1, 2), (1, 3)), ((1, 3), (1, 2))])
def test_rows_that_do_not_belong_together_are_refused_whichever_are_more(rows, others):
    scalarizer = AlongPreference(ideal=[0, 0])
    for call, second in (
        (lambda: inner_product(np.ones(others), np.ones(rows)), "preferences"),
        (lambda: cross_angle(np.ones(rows), np.ones(others), [0.0] * rows[1]), "directions"),
        (lambda: scalarizer_cross_angle(np.ones(rows), np.ones(others), scalarizer), "preferences"),
        (lambda: scalarizer_regret(np.ones(rows), np.ones(others), scalarizer), "preferences"),
    ):
        message = rf"values have shape {re.escape(str(rows))} and {second} {re.escape(str(others))}"
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("indicator", [scalarizer_cross_angle, scalarizer_regret])
def test_what_is_no_scalarizer_is_named(indicator):
    with pytest.raises(TypeError, match="scalarizer is 'linear', of type str: give a Scalarizer"):
        indicator([[1.0, 2.0]], [[0.5, 0.5]], "linear")


def test_known_values_on_fewer_objectives_are_refused_and_on_300_taken():
    with pytest.raises(ValueError, match=r"values have 3 objectives .*but best_values has 2"):
        scalarizer_regret([[1.0, 2.0, 3.0]], [[0.5, 0.5, 0.0]], Linear(), [[1.0, 2.0]])
    ones, weights = np.ones((1, 300)), np.full((1, 300), 1 / 300)
    assert scalarizer_regret(ones, weights, Linear(), np.zeros((2, 300))).max == pytest.approx(1.0)
