"""The front with λ marked: the nearest measured point, its numbers, its interval."""

from xml.etree import ElementTree

import numpy as np
import pytest
from _page_servers import NAMES, page_front
from hypothesis import given, strategies as st

pytest.importorskip("pydantic")

from mopref.front import Front
from mopref.serving.page.front_picture import front_markup, front_sentence, nearest_point


def drawn(front, preference):
    """The picture's elements by their class."""
    tree = ElementTree.fromstring(front_markup(front, preference))
    return lambda kind: [each for each in tree.iter() if kind in (each.get("class") or "").split()]


@given(st.floats(0, 1))
def test_the_mark_is_at_the_nearest_measured_point(first):
    front = page_front(NAMES[2])
    row = nearest_point(front, (first, 1 - first))
    distances = np.abs(front.preferences[:, 0] - first)
    # Two may be as near, up to rounding.
    assert distances[row] <= distances.min() + 1e-6


def test_a_plane_shows_every_point_and_the_mark_on_its_own():
    front = page_front(NAMES[2])
    found = drawn(front, (0.0, 1.0))
    assert len(found("point")) == len(front)
    assert len(found("dominated")) == 1
    assert found("dominated")[0].tag == "rect"
    (mark,), intervals = found("mark"), found("interval")
    assert len(intervals) == 2
    # The first point: by the place of its circle.
    circle = found("point")[0]
    x, y = float(circle.get("cx")), float(circle.get("cy"))
    assert mark.get("d").startswith(f"M{x:.1f} {y - 8:.1f}")
    # Better in the first objective is to the left, as lower is better: the corner of the other one is to the right.
    assert x == max(float(each.get("cx")) for each in found("point") if each.tag == "circle")


def test_the_mark_moves_with_the_preference():
    front = page_front(NAMES[2])
    places = {drawn(front, (first, 1 - first))("mark")[0].get("d") for first in np.linspace(0, 1, 6)}
    assert len(places) == 6


@pytest.mark.parametrize("m", [3, 4])
def test_more_objectives_have_an_axis_each(m):
    front = page_front(NAMES[m])
    found = drawn(front, [1 / m] * m)
    assert len(found("mark")) == len(found("interval")) == m
    assert len(found("line")) == len(front)


def test_the_better_end_of_an_axis_is_above():
    front = Front(np.eye(3), np.eye(3), ("a", "b", "c"), maximize=(True, False, True))
    heights = [float(mark.get("d").split()[1].partition("l")[0]) for mark in drawn(front, (1, 0, 0))("mark")]
    # a: 1 of a reward, above; b: 0 of a loss, above; c: 0 of a reward, below.
    assert heights[0] == pytest.approx(heights[1])
    assert heights[2] > heights[0] + 100


def test_the_sentence_says_the_numbers_of_the_point():
    front = page_front(NAMES[2])
    told = front_sentence(front, (0.0, 1.0))
    assert told.startswith("Measured at your λ: ")
    assert "helpful 0.9 (0.87 to 0.94), lower is better" in told
    assert "95 % interval" in told
    assert "nearest to your λ, at helpful .00, harmless 1.00" in front_sentence(front, (0.05, 0.95))


def test_a_front_without_intervals_has_none():
    front = Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], ("a", "b"))
    assert not drawn(front, (0.5, 0.5))("interval")
    assert "interval." not in front_sentence(front, (0.5, 0.5))


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e12, -5.0])
def test_values_that_are_all_alike_are_drawn(value):
    front = Front([[1, 0], [0, 1]], [[value, value], [value, value]], ("a", "b"))
    assert "nan" not in front_markup(front, (0.5, 0.5))


def test_names_are_escaped():
    markup = front_markup(page_front(NAMES[4]), [0.25] * 4)
    assert "a<b>" not in markup
    assert "a&lt;b&gt;" in markup
