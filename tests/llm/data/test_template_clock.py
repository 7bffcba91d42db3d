"""Templates that ask for the date: in which ways, and what stands in its place."""

from datetime import datetime
from types import SimpleNamespace

import pytest

from mopref.llm.data.template_clock import TWO_MOMENTS, asks_for_now, at_moment, clock_template

MOMENT = datetime(2026, 11, 28, 9, 30)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ strftime_now('%d %b %Y') }}", "{{ '28 Nov 2026' }}"),
        ('{{- strftime_now( "%Y-%m-%d" ) + strftime_now(format="%H:%M") }}', "{{- '2026-11-28' + '09:30' }}"),
        ("{% if strftime_now is defined %}", "{% if strftime_now is defined %}"),
        ("{{ strftime_now(style) }}", "{{ strftime_now(style) }}"),
    ],
)
def test_one_moment_in_the_place_of_now(template, expected):
    assert at_moment(template, MOMENT) == expected
    assert asks_for_now(template) == ("strftime_now(" in template)
    assert asks_for_now(at_moment(template, MOMENT)) == ("style" in template)


def test_two_moments_differ_in_all_their_parts():
    for part in "aAbBdHIjmMpSyYfU":
        first, second = (moment.strftime(f"%{part}") for moment in TWO_MOMENTS)
        assert first != second, part


def test_template_of_a_tokenizer():
    assert clock_template(SimpleNamespace()) is None
    assert clock_template(SimpleNamespace(chat_template=None)) is None
    assert clock_template(SimpleNamespace(chat_template="{{ messages }}")) is None
    named = {"default": "{{ strftime_now('%d') }}", "other": "{{ messages }}"}
    for name, expected in (("default", named["default"]), ("other", None)):
        tokenizer = SimpleNamespace(chat_template=named, get_chat_template=lambda name=name: named[name])
        assert clock_template(tokenizer) == expected
