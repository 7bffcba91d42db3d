"""Weights by name, as people type them."""

import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from mopref._named_weights import named_weights, typed_number

NAMES = st.text(min_size=1, max_size=8).map(str.strip).filter(lambda name: name and "," not in name)


@given(st.dictionaries(NAMES, st.floats(0, 1), min_size=1, max_size=4))
def test_what_is_written_is_read_again(weights):
    assert named_weights(",".join(f"{name}={weight!r}" for name, weight in weights.items())) == weights


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no name and number"),
        ("a", "'a' is no name and number"),
        ("a=1,", "'' is no name and number"),
        ("=1", "'=1' is no name and number"),
        ("a=", "the weight of 'a' is '', which is no number"),
        ("a=half", "the weight of 'a' is 'half'"),
        ("a=nan", "no number"),
        ("a=1_0", "no number"),
        ("a=٠.5", "no number"),
        ("a=.5,a=.5", "'a' is there twice"),
        ("a=.5, a =.5", "'a' is there twice"),
    ],
)
def test_what_is_no_weight_is_named(text, words):
    with pytest.raises(ValueError, match=words):
        named_weights(text)


@pytest.mark.parametrize(("text", "number"), [("1", 1.0), ("-.5", -0.5), ("1e-3", 0.001), ("inf", None), ("", None)])
def test_numbers(text, number):
    assert typed_number(text) == number


def test_it_brings_no_torch():
    code = (
        "import sys, mopref.serving.names, mopref._named_weights; assert not {'torch', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
