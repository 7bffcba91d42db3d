"""Front under a scalarizer: cross angle and regret, in either direction, and where they are shown."""

import math

import numpy as np
import pytest

from mopref import indicators
from mopref.front import Front
from mopref.scalarizer import IdealPointScalarizer, Scalarizer


def small(**changes):
    arguments = {
        "preferences": [[1.0, 0.0], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]],
        "values": np.array([[0.0, 2.0], [1.0, 1.0], [1.5, 1.5], [2.0, 0.0]]),
        "names": ("helpful", "harmless"),
    }
    return Front(**(arguments | changes))


class AlongPreference(IdealPointScalarizer):
    """The largest shortfall; aims along λ."""

    def scalarize(self, losses, preferences):
        return (self.above_ideal(losses) / preferences.clamp(min=0.01)).amax(dim=-1)

    def target_direction(self, preferences):
        return preferences


class Sum(Scalarizer):
    """A weighted sum; aims nowhere."""

    def scalarize(self, losses, preferences):
        return (preferences * losses).sum(dim=-1)

    def target_direction(self, preferences):
        return None


def test_cross_angle_and_regret_are_measured_on_minimised_values():
    scalarizer = AlongPreference(ideal=[-1.0, -1.0])
    expected = indicators.scalarizer_cross_angle(small().values, small().preferences, scalarizer)
    assert small().cross_angle(scalarizer) == expected > 0
    best = [[0.5, 0.5], [0.0, 1.0]]
    regret = small().regret(scalarizer, best)
    for factors, maximize in (([-1, -1], True), ([1, -1], (False, True))):
        front = small(values=small().values * factors, maximize=maximize)
        assert front.cross_angle(scalarizer) == expected
        assert front.regret(scalarizer, np.multiply(best, factors)).per_preference.tolist() == (
            regret.per_preference.tolist()
        )
    # By hand, weighted sums of (0, 2), (1, 1), (1.5, 1.5), (2, 0): 0, 1, 1.5, 0; of the best: 0, ½, ½, ½.
    assert small().regret(Sum(), best).per_preference.tolist() == [0.0, 0.5, 1.0, -0.5]
    assert small().regret(Sum()).per_preference.tolist() == [0.0, 0.0, 1.0, 0.0]
    with pytest.raises(ValueError, match=r"best_values has shape \(1, 3\), but the front has 2"):
        small().regret(Sum(), [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="best_values has nan"):
        small().regret(Sum(), [[1.0, math.nan]])


def test_indicators_under_a_scalarizer():
    found = small().indicators(scalarizer=Sum())
    assert (found["regret_mean"], found["regret_max"]) == (0.25, 1.0)
    assert "cross_angle" not in found
    known = [[0.5, 0.5], [0.0, 1.0]]
    scalarizer = AlongPreference(ideal=[-1.0, -1.0])
    found = small().indicators(true_front=known, scalarizer=scalarizer)
    assert found["cross_angle"] == small().cross_angle(scalarizer)
    assert (found["regret_mean"], found["regret_max"]) == small().regret(scalarizer, known)[:2]
    text = small().summary(scalarizer=scalarizer)
    assert f"cross angle     {small().cross_angle(scalarizer):.6g}" in text
    assert "regret max      1\n" in small().summary(scalarizer=Sum())
    assert "regret" not in small().summary()
