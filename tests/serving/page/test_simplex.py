"""λ under the sliders: on the simplex, within bounds, and in proportion."""

import pytest
from hypothesis import given, strategies as st

from mopref.serving.page.simplex import bounds, centre, corner, moved, nearest

PARTS = st.floats(0, 1, allow_subnormal=False)


@st.composite
def bounded(draw):
    """Bounds whose sum is at most 1, and a λ that keeps them."""
    m = draw(st.integers(2, 6))
    raw = draw(st.lists(PARTS, min_size=m, max_size=m))
    reach = draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    minimums = [reach * part / max(sum(raw), 1.0) for part in raw]
    parts = draw(st.lists(PARTS, min_size=m, max_size=m))
    spare = 1 - sum(minimums)
    shares = [part / sum(parts) for part in parts] if sum(parts) > 1e-6 else [1 / m] * m
    return minimums, [least + spare * share for least, share in zip(minimums, shares, strict=True)]


def check(weights, minimums):
    assert sum(weights) == pytest.approx(1, abs=1e-9)
    assert all(weight >= least - 1e-9 for weight, least in zip(weights, minimums, strict=True))


@given(bounded(), st.integers(0, 5), st.floats(-1, 2))
def test_a_moved_slider_keeps_the_simplex_the_bounds_and_proportions(made, place, value):
    minimums, weights = made
    place %= len(weights)
    after = moved(weights, place, value, minimums)
    check(after, minimums)
    low, high = bounds(minimums)[place]
    assert after[place] == pytest.approx(min(max(value, low), high), abs=1e-9)
    others = [i for i in range(len(weights)) if i != place]
    for i in others:
        for j in others:
            # (λ'_i − l_i)(λ_j − l_j) = (λ'_j − l_j)(λ_i − l_i), if something is there to keep in proportion.
            one = (after[i] - minimums[i]) * (weights[j] - minimums[j])
            other = (after[j] - minimums[j]) * (weights[i] - minimums[i])
            if sum(weights[k] - minimums[k] for k in others) > 1e-6:
                assert one == pytest.approx(other, abs=1e-9)


@given(bounded(), st.integers(0, 5))
def test_a_slider_that_stays_changes_nothing(made, place):
    minimums, weights = made
    place %= len(weights)
    assert moved(weights, place, weights[place], minimums) == pytest.approx(weights, abs=1e-9)


@given(bounded(), st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_the_nearest_is_allowed_and_none_allowed_is_nearer(made, raw):
    minimums, weights = made
    raw = raw[: len(weights)]
    found = nearest(raw, minimums)
    check(found, minimums)

    def distance(point):
        return sum((a - b) ** 2 for a, b in zip(point, raw, strict=True))

    # The set is convex: its nearest point is nearer than every other one, such as these.
    for other in (weights, centre(minimums), *(corner(i, minimums) for i in range(len(weights)))):
        assert distance(found) <= distance(other) + 1e-9
    assert nearest(weights, minimums) == pytest.approx(weights, abs=1e-9)


def test_all_at_their_bounds_share_evenly():
    assert moved([1.0, 0.0, 0.0], 0, 0.4, [0.0] * 3) == pytest.approx((0.4, 0.3, 0.3))


def test_bounds_that_leave_one_point():
    assert corner(0, [0.4, 0.6]) == pytest.approx((0.4, 0.6))
    assert centre([0.4, 0.6]) == pytest.approx((0.4, 0.6))
    assert moved([0.4, 0.6], 0, 0.9, [0.4, 0.6]) == pytest.approx((0.4, 0.6))
