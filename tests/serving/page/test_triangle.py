"""The triangle's markup: its data as the script reads them, and nothing that a template obeys."""

import html
import json
import re

import pytest

pytest.importorskip("pydantic")

from mopref.serving.page.region_picture import point_in
from mopref.serving.page.triangle import triangle_script, triangle_template

NAMES = ("a`${1}", "b<i>{{c}}", 'd"e\\')


def test_the_script_reads_what_was_given():
    markup = triangle_template(NAMES, (0.0, 0.25, 0.0))
    data = {name: json.loads(html.unescape(text)) for name, text in re.findall(r'data-(\w+)="([^"]*)"', markup)}
    assert data["names"] == list(NAMES)
    assert data["minimums"] == [0.0, 0.25, 0.0]
    assert not set("`${}\\") & set(markup)
    assert "<i>" not in markup


def test_what_bounds_forbid_is_outside_of_what_is_allowed():
    markup = triangle_template(("a", "b", "c"), (0.0, 0.5, 0.0))
    (points,) = re.findall(r'class="allowed" points="([^"]*)"', markup)
    corners = [tuple(map(float, pair.split(","))) for pair in points.split()]
    wanted = [point_in(each) for each in ((0.5, 0.5, 0.0), (0.0, 1.0, 0.0), (0.0, 0.5, 0.5))]
    assert corners == [pytest.approx(each, abs=0.06) for each in wanted]


def test_it_is_operable_by_keys():
    markup, script = triangle_template(("a", "b", "c"), (0.0,) * 3), triangle_script()
    assert 'tabindex="0"' in markup
    assert "aria-label" in markup
    assert all(key in script for key in ("ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "aria-valuetext"))
