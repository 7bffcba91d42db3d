"""Front: what it stores and says, under a reference point, against a true front and under a scalarizer."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from _tensors import tensor
from front_inputs import NAMES, small

from mopref import indicators
from mopref.front import Front
from mopref.scalarizer import IdealPointScalarizer, Scalarizer
from mopref.scalarizers import PBI


def test_stores_float64_copies():
    preferences, values = np.array([[1.0, 0.0]]), np.array([[1.0, 2.0]])
    front = Front(preferences, values, NAMES)
    front.values[0, 0] = 5
    front.preferences[0, 0] = 5
    assert values[0, 0] == 1.0
    assert preferences[0, 0] == 1.0
    from_tensors = Front(tensor([[0.1, 0.9]]), tensor([[1.0, 1.0]]).requires_grad_(), list(NAMES))
    assert from_tensors.preferences.dtype == from_tensors.values.dtype == np.float64
    assert from_tensors.names == NAMES
    assert len(from_tensors) == 1
    assert repr(from_tensors) == "Front(1 points, names=('helpful', 'harmless'), maximize=False)"


def test_what_a_preference_says_is_kept_and_told():
    assert small().convention == "importance"
    assert "convention" not in repr(small())
    ray = small(convention="ray")
    assert repr(ray).endswith("maximize=False, convention='ray')")
    assert ray.non_dominated().convention == "ray"
    assert "λ (ray) helpful" in ray.summary()
    assert ray.summary().splitlines()[0].startswith("RAY: ")
    assert small(convention="unrecorded").summary().splitlines()[0].startswith("UNRECORDED: ")
    assert "λ helpful" in small().summary().splitlines()[0]
    with pytest.raises(ValueError, match=r"convention is 'rays': choose 'importance', .* 'ray', .* 'unrecorded'"):
        small(convention="rays")


def test_a_scalarizer_of_the_other_convention_is_refused():
    """Each point would be measured against what another preference asked for."""
    ray, importance = (PBI(ideal=[-1, -1], convention=convention) for convention in ("ray", "importance"))
    for front, own, other in ((small(), importance, ray), (small(convention="ray"), ray, importance)):
        assert front.cross_angle(own) > 0
        front.regret(own)
        for measure in (front.cross_angle, front.regret, lambda g, front=front: front.indicators(scalarizer=g)):
            with pytest.raises(
                ValueError, match=rf"convention is '{own.convention}', but to PBI.*'{other.convention}'"
            ):
                measure(other)
    for g in (ray, importance):
        small(convention="unrecorded").cross_angle(g)


def test_bad_values_raise():
    with pytest.raises(ValueError, match="values has inf at row 0, column 1"):
        Front([[1, 0]], [[1, math.inf]], NAMES)
    with pytest.raises(ValueError, match="empty"):
        Front(np.empty((0, 2)), np.empty((0, 2)), NAMES)


@pytest.mark.parametrize(
    ("maximize", "expected"),
    [(True, True), ([False, False], False), ((True, True), True), ([True, False], (True, False))],
)
def test_maximize_is_one_bool_where_all_agree(maximize, expected):
    front = small(maximize=maximize)
    assert front.maximize == expected
    assert type(front.maximize) is type(expected)
    assert front.is_maximized() == (expected if isinstance(expected, tuple) else (expected, expected))
    with pytest.raises(ValueError, match=r"maximize has shape \(3,\)"):
        small(maximize=[True] * 3)


def test_hypervolume_never_guesses_the_reference_point():
    front = small()
    assert front.hypervolume([3, 3]) == indicators.hypervolume(front.values, [3, 3]) == 6.0
    assert front.hypervolume() == 6.0  # the one in metadata
    assert front.hypervolume([2, 2]) == 1.0
    assert small(maximize=True).hypervolume([0, 0]) == 2.25
    with pytest.raises(ValueError, match="no reference_point is given"):
        small(metadata={}).hypervolume()


@pytest.mark.parametrize("maximize", [False, True, (True, False)])
def test_indicators_are_the_functions(maximize):
    front = small(maximize=maximize)
    values, true_front = front.values, [[0.0, 0.5], [0.5, 0.0]]
    point = np.where(front.is_maximized(), -1.0, 3.0)
    numbers = front.indicators(point, true_front)
    assert numbers == {
        "hypervolume": indicators.hypervolume(values, point, maximize),
        "hypervolume_exact": True,
        "reference_point": point.tolist(),
        "inner_product": indicators.inner_product(front.preferences, values, maximize),
        "sparsity": pytest.approx(indicators.sparsity(values, maximize), nan_ok=True),
        "spacing": indicators.spacing(values, maximize),
        "range": {"helpful": 2.0, "harmless": 2.0},
        "non_dominated": indicators.non_dominated(values, maximize).sum(),
        "distinct_non_dominated": indicators.number_of_distinct_non_dominated(values, maximize=maximize),
        "fraction_non_dominated": indicators.fraction_non_dominated(values, maximize),
        "collapsed": front.is_collapsed(),
        "igd": indicators.igd(values, true_front, maximize),
        "igd_plus": indicators.igd_plus(values, true_front, maximize),
        "gd": indicators.gd(values, true_front, maximize),
        "gd_plus": indicators.gd_plus(values, true_front, maximize),
        "fill_distance": indicators.fill_distance(values, true_front),
    }
    bare = small(metadata={}).indicators()
    assert not {"hypervolume", "reference_point", "igd"} & set(bare)
    assert small().indicators()["reference_point"] == [3.0, 3.0]


def test_non_dominated_keeps_everything_that_belongs_to_a_point():
    front = small().non_dominated()
    assert front.values.tolist() == [[0, 2], [1, 1], [2, 0]]
    assert front.preferences[:, 0].tolist() == [1, 0.5, 0]
    assert front.extra["length"].tolist() == [10, 20, 40]
    assert front.metadata == small().metadata
    assert small(maximize=True).non_dominated().values.tolist() == [[0, 2], [1.5, 1.5], [2, 0]]


def test_collapse_is_noticed():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(2), 20)
    noise = 1e-4 * rng.random((20, 2))
    assert Front(weights, 0.6 + noise, NAMES).is_collapsed()
    assert not Front(weights, 0.6 + noise, NAMES).is_collapsed(tolerance=1e-6)
    assert not Front(weights, 0.6 + noise, NAMES).is_collapsed(scale=[1e-4, 1e-4])
    assert not Front(weights, 0.6 + weights / 10, NAMES).is_collapsed()
    # The verdict does not depend on the objectives' units.
    for units in (1e-6, 1e6):
        assert Front(weights, (0.6 + noise) * units, NAMES).is_collapsed()
        assert not Front(weights, (0.6 + weights / 10) * units, NAMES).is_collapsed()
    # One point that dominates all others leaves nothing to choose either.
    assert Front(weights, np.stack([weights[:, 0]] * 2, axis=1), NAMES).is_collapsed()
    assert not Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], NAMES).is_collapsed()
    assert not Front([[1, 0]], [[0, 1]], NAMES).is_collapsed()
    assert Front([[1], [1]], [[2], [2]], ["a"]).is_collapsed()
    assert not Front([[1], [1]], [[1], [2]], ["a"]).is_collapsed()
    with pytest.raises(ValueError, match=r"scale has shape \(1,\): it must be \(2,\)"):
        small().is_collapsed(scale=[1.0])


def test_to_frame():
    frame = small().to_frame()
    columns = ["preference_helpful", "preference_harmless", "helpful", "harmless", "length", "accuracy", "text"]
    assert list(frame.columns) == columns
    assert frame["preference_harmless"].tolist() == [0, 0.5, 0.75, 1]
    assert frame["harmless"].tolist() == [2, 1, 1.5, 0]
    assert frame["length"].tolist() == [10, 20, 30, 40]


def test_pictures_are_drawn_only_when_asked_for():
    """Matplotlib is loaded by the one method that draws."""
    code = (
        "import sys; from mopref.front import Front; front = Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], ('a', 'b')); "
        "print('mopref.plotting' in sys.modules, 'matplotlib' in sys.modules); "
        "front.plot(); print('mopref.plotting' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False", "True"]


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
    numbers = small().indicators(scalarizer=Sum())
    assert (numbers["regret_mean"], numbers["regret_max"]) == (0.25, 1.0)
    assert "cross_angle" not in numbers
    best = [[0.5, 0.5], [0.0, 1.0]]
    scalarizer = AlongPreference(ideal=[-1.0, -1.0])
    numbers = small().indicators(true_front=best, scalarizer=scalarizer)
    assert numbers["cross_angle"] == small().cross_angle(scalarizer)
    assert (numbers["regret_mean"], numbers["regret_max"]) == small().regret(scalarizer, best)[:2]
    text = small().summary(scalarizer=scalarizer)
    assert f"cross angle     {small().cross_angle(scalarizer):.6g}" in text
    assert "regret max      1\n" in small().summary(scalarizer=Sum())
    assert "regret" not in small().summary()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda front: front.cross_angle(None), "scalarizer is None, of type NoneType: give a Scalarizer"),
        (lambda front: front.regret(b"ab"), "scalarizer is b'ab'"),
        (lambda front: front.indicators(scalarizer="linear"), "scalarizer is 'linear', of type str"),
        (lambda front: front.summary(scalarizer=3), "scalarizer is 3, of type int"),
        (lambda front: front.summary(width="80"), "width is '80', of type str: give a whole number"),
        (lambda front: front.is_collapsed("0.001"), "tolerance is '0.001', of type str: give a number"),
        (lambda front: front.is_collapsed([]), r"tolerance is \[\], of type list: give a number"),
        (lambda front: front.is_collapsed(None), "tolerance is None"),
        (lambda front: front.save(None), "path is None, of type NoneType: give a path"),
        (lambda front: front.save(b"front.json"), "path is b'front.json', of type bytes: give a path"),
        (lambda front: Front.load(None), "path is None"),
        (lambda front: small(names=0.0), "names is 0.0, of type float: give a list"),
        (lambda front: small(names=iter("ab")), "names is .*: give a list"),
        (lambda front: small(extra=[1]), r"extra is \[1\], of type list: give a dict"),
        (lambda front: small(metadata=3), "metadata is 3, of type int: give a dict"),
        (lambda front: small(metadata=torch.zeros(0)), "metadata is .*: give a dict"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(call, message):
    with pytest.raises(TypeError, match=message):
        call(small())


def test_a_file_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file front\.json \(looked for in .*give the path of a front"):
        Front.load("front.json")
