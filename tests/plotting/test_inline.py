"""Pictures within a page: well-formed, the same each time, and nothing in them reaches out of them."""

import re
from xml.etree import ElementTree

import pytest
from plotting_inputs import front_of

from mopref.plotting import plot_front, plot_training
from mopref.plotting.inline import inline_svg

HISTORY = [{"step": step, "loss/a": 1.0 / step, "loss/b": 0.5} for step in range(1, 6)]


@pytest.mark.parametrize("objectives", [2, 3, 5])
def test_nothing_is_named_outside_the_picture(objectives):
    markup = inline_svg(plot_front(front_of(objectives)), "front", "a front")
    assert "http" not in markup
    assert "<style" not in markup
    assert "<?xml" not in markup
    assert "<!DOCTYPE" not in markup
    root = ElementTree.fromstring(markup)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids) > 10
    assert all(name.startswith("front-") for name in ids)
    references = re.findall(r"url\(#([^)]*)\)", markup) + re.findall(r'href="#([^"]*)"', markup)
    assert references
    assert set(re.findall(r'href="([^#"]{5})', markup)) <= {"data:"}
    assert set(references) <= set(ids)
    assert (root.get("role"), root.get("aria-label")) == ("img", "a front")


def test_the_same_figure_gives_the_same_markup():
    first, second = (inline_svg(plot_training(HISTORY), "training", "losses") for _ in range(2))
    assert first == second


def test_two_pictures_of_a_page_share_no_id():
    markups = [inline_svg(plot_training(HISTORY), name, "losses") for name in ("one", "two")]
    ids = [set(re.findall(r' id="([^"]*)"', markup)) for markup in markups]
    assert not ids[0] & ids[1]


def test_text_is_text_and_hostile_text_is_no_markup():
    history = [{"step": 1, "loss/<script>alert(1)</script>": 1.0, "loss/\"quoted\" & 'more'": 2.0}]
    markup = inline_svg(plot_training(history, title="</style><b>"), "a", '<b> "x"')
    assert "<script" not in markup
    assert "<b>" not in markup
    root = ElementTree.fromstring(markup)
    texts = {element.text for element in root.iter("text")}
    assert {"<script>alert(1)</script>", "\"quoted\" & 'more'", "</style><b>"} <= texts
    assert root.get("aria-label") == '<b> "x"'
