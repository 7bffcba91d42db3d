"""The region on the simplex: every point once, inside or outside, and λ at its place."""

from xml.etree import ElementTree

import pytest

pytest.importorskip("pydantic")

from mopref.personal import PairMargins, fit_choices
from mopref.serving.page.region_picture import CORNERS, point_in, region_markup, region_sentence


def fitted(m: int):
    names = ("a<b>", "b", "c", "d")[:m]
    values = [[2.0 if i == n % m else -1.0 for i in range(m)] for n in range(5)]
    return fit_choices(PairMargins(values, names), {0: 0, 1: 1, 2: 0})


def drawn(m: int):
    found = fitted(m)
    tree = ElementTree.fromstring(region_markup(found.region, found.preference.tolist()))
    return found, lambda kind: [each for each in tree.iter() if each.get("class") == kind]


@pytest.mark.parametrize("m", [2, 3])
def test_points_inside_are_told_from_points_outside_by_their_size(m):
    found, parts = drawn(m)
    inside, outside = parts("inside"), parts("outside")
    assert len(inside) == int(found.region.inside.sum())
    assert len(inside) + len(outside) == len(found.region.points)
    assert min(float(each.get("r")) for each in inside) > max(float(each.get("r")) for each in outside)
    assert len(parts("mark")) == 1


def test_a_point_lies_as_near_to_a_corner_as_its_weight_says():
    for place, corner in enumerate(CORNERS):
        assert point_in([float(i == place) for i in range(3)]) == corner
    x, y = point_in((1 / 3, 1 / 3, 1 / 3))
    assert x == pytest.approx(sum(corner[0] for corner in CORNERS) / 3)
    assert y == pytest.approx(sum(corner[1] for corner in CORNERS) / 3)


def test_the_mark_of_a_triangle_is_at_the_mean():
    found, parts = drawn(3)
    x, y = point_in(found.preference.tolist())
    assert parts("mark")[0].get("d").startswith(f"M{x:.1f} {y - 8:.1f}")


def test_four_objectives_have_a_bar_each():
    _, parts = drawn(4)
    assert len(parts("span")) == len(parts("edge")) == len(parts("mark")) == 4


def test_the_sentence_says_bounds_and_the_names_are_escaped():
    found, _ = drawn(2)
    (low, high), _ = found.region.intervals.tolist()
    assert f"a<b> between {low:.2f} and {high:.2f}" in region_sentence(found.region, found.preference.tolist())
    assert "a<b>" not in region_markup(found.region, found.preference.tolist())
