"""mopref/serving/names.py: λ by the name of a model."""

import json
import math

import pytest
from hypothesis import given, strategies as st

from mopref.serving import parse_name
from mopref.serving.names import grid_steps, read_presets, rounded_weights

HH = {"hh": ("helpful", "harmless"), "three": ("a", "b", "c")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hh@helpful=0.7,harmless=0.3", (0.7, 0.3)),
        ("hh@harmless=0.3, helpful=0.7", (0.7, 0.3)),
        ("hh@0.7,0.3", (0.7, 0.3)),
        ("hh@0.7", (0.7, 0.3)),
        ("hh@1", (1.0, 0.0)),
        ("hh@even", (0.5, 0.5)),
        ("hh@safe", (0.25, 0.75)),
        ("hh@0.704,0.296", (0.7, 0.3)),
        ("three@0.2,0.3,0.5", (0.2, 0.3, 0.5)),
        ("three@c=.5,b=.3,a=.2", (0.2, 0.3, 0.5)),
    ],
)
def test_names_and_what_they_ask_for(name, expected):
    served = parse_name(name, HH, {"even": [0.5, 0.5], "safe": {"harmless": 0.75, "helpful": 0.25}})
    assert served.preference == pytest.approx(expected, abs=1e-12)
    assert served.adapter == name.partition("@")[0]
    assert sum(served.weights) == served.steps == 100


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("other@0.5,0.5", "is no adapter that is served .these are: hh, three."),
        ("hh", "says no preference"),
        ("hh@", "says no preference"),
        ("hh@helpful=0.7", "harmless"),
        ("hh@helpful=0.7,harmless=0.7", "sum"),
        ("hh@helpful=-0.1,harmless=1.1", "-0.1"),
        ("hh@helpful=.5,funny=.5", "'funny' is no objective .*choose from helpful, harmless"),
        ("hh@helpful=.5,helpful=.5", "twice"),
        ("hh@helpful=.5,harmless=half", "give a number"),
        ("hh@helpful=nan,harmless=.5", "give a number"),
        ("hh@inf,0", "neither weights nor a preset"),
        ("hh@1_0,0", "neither weights nor a preset"),
        ("hh@٠.5,0.5", "neither weights nor a preset"),
        ("hh@unknown", "neither weights nor a preset .there are no presets."),
        ("hh@0.2,0.3,0.5", "has 3 weights for 2 objectives"),
        ("three@0.5", "has 1 weights for 3 objectives"),
        ("hh@2", "-1"),
        ("hh@" + "9" * 2000, "has 2003 characters"),
    ],
)
def test_wrong_names_are_refused_with_what_to_write(name, reason):
    with pytest.raises(ValueError, match=reason):
        parse_name(name, HH)


def test_a_name_is_a_text():
    with pytest.raises(TypeError, match="give a text"):
        parse_name(None, HH)


@given(
    weights=st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda weights: sum(weights) > 1e-3),
    steps=st.sampled_from([1, 2, 10, 100, 1000]),
)
def test_rounding_stays_on_the_simplex_and_nearer_than_a_step(weights, steps):
    exact = [weight / sum(weights) for weight in weights]
    names = tuple(f"objective {number}" for number in range(len(exact)))
    rounded, found = rounded_weights(exact, names, 1 / steps)
    assert found == steps == sum(rounded)
    assert min(rounded) >= 0
    assert all(abs(whole / steps - weight) < 1 / steps + 1e-8 for whole, weight in zip(rounded, exact, strict=True))
    # What is on the grid stays.
    assert rounded_weights([whole / steps for whole in rounded], names, 1 / steps) == (rounded, steps)


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(any), st.permutations(range(3)))
def test_rounding_of_exact_points_goes_with_the_order_of_objectives(parts, order):
    total = sum(parts)
    rounded, _ = rounded_weights([part / total for part in parts], ("a", "b", "c"), 1 / total)
    assert rounded == tuple(parts)
    permuted, _ = rounded_weights([parts[place] / total for place in order], ("a", "b", "c"), 1 / total)
    assert permuted == tuple(parts[place] for place in order)


@pytest.mark.parametrize("grid", [0.0, -0.1, 0.3, 2.0, math.nan, math.inf, 1e-9])
def test_a_grid_whose_steps_do_not_make_one_is_refused(grid):
    with pytest.raises(ValueError, match="give a step of which a whole number makes 1"):
        grid_steps(grid)


def test_presets_are_read_and_checked(tmp_path):
    path = tmp_path / "presets.json"
    path.write_text(json.dumps({"even": [0.5, 0.5], "safe": {"helpful": 0.1, "harmless": 0.9}}))
    assert parse_name("hh@safe", HH, read_presets(path)).weights == (10, 90)
    for wrong in ([1], {"x": 3}, {"0.5": [1, 0]}, {"a=b": [1, 0]}, {"a,b": [1, 0]}, {"": [1, 0]}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match="give"):
            read_presets(path)
