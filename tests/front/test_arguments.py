"""The arguments of a front: what is refused before any work is lost, and what the others become."""

import math

import numpy as np
import pytest
import torch
from _tensors import tensor
from front_inputs import NAMES, small

from mopref.front import Front
from mopref.front.arguments import checked_preferences
from mopref.preferences import validate_preferences


def test_float32_preferences_are_precise_enough():
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 200).astype(np.float32)
    assert len(Front(weights, np.zeros((200, 3)), ("a", "b", "c"))) == 200


def test_preferences_that_a_model_takes_are_taken():
    """Twenty float32 weights may sum to 1.0000016: a front refused them once, after everything had been evaluated."""
    names = tuple(f"objective {i}" for i in range(20))
    weights = torch.full((1, 20), 0.05, dtype=torch.float32)
    weights[0, 0] += 1.6e-6
    assert 1.5e-6 < weights.double().sum() - 1 < 1.7e-6
    front = Front(weights, np.zeros((1, 20)), names)
    assert front.preferences.sum() == pytest.approx(1.0, abs=1e-15)
    checked = validate_preferences(weights, names).numpy()
    assert Front(checked, np.zeros((1, 20)), names).preferences.tobytes() == front.preferences.tobytes()
    half = Front(tensor([[0.1, 0.9]], torch.bfloat16), [[1, 2]], NAMES)
    assert half.preferences.sum() == pytest.approx(1.0, abs=1e-15)


def test_preferences_are_copied():
    array = np.array([[0.25, 0.75]])
    checked = checked_preferences(array, NAMES, (1, 2))
    checked[0, 0] = 5.0
    assert array.tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        ([[1.0, 0.0], [0.6, 0.5]], r"preference 1 = \[0\.6, 0\.5\] sums to 1\.1, not 1"),
        ([[1.0, 0.0], [1.5, -0.5]], "preference 1 has weight -0.5 for harmless, which is negative"),
        ([[1.0, 0.0], [math.nan, 1.0]], "preference 1 has weight nan for helpful, which is not finite"),
        ([[1.0, 0.0]], r"preferences have shape \(1, 2\) and values \(2, 2\): both must be \(N, m\)"),
        ([1.0, 0.0], r"preferences have shape \(2,\) and values \(2, 2\): both must be \(N, m\)"),
        ([[1.0, 0.0], [0.5, 0.5 + 2e-6]], r"preference 1 = \[0\.5, 0\.500002\] sums to 1\.000002, not 1"),
        ([[1.0, 0.0], [1.0]], "preferences is no rectangular array of real numbers"),
    ],
)
def test_bad_preferences_raise(preferences, message):
    with pytest.raises(ValueError, match=message):
        Front(preferences, [[1, 2], [3, 4]], NAMES)


@pytest.mark.parametrize("names", ["ab", ("a",), ("a", "a"), ("a", ""), ("a", 1), ("a", "b", "c")])
def test_bad_names_raise(names):
    with pytest.raises((ValueError, TypeError), match=r"names(\[1\])? (are|is) .*: give"):
        Front([[1, 0]], [[1, 2]], names)


def test_extra_columns():
    front = small(
        extra={"flag": [True, False, True, True], "tensor": tensor([1, 2, 3, 4], torch.int64), "none": [None] * 4}
    )
    assert front.extra["flag"].dtype == bool
    assert front.extra["tensor"].dtype == np.int64
    assert np.isnan(front.extra["none"]).all()
    for wrong in ([1, 2], [[1], [2], [3], [4]], ["a", None, "b", "c"], [{}, 1, 2, 3]):
        with pytest.raises(ValueError, match="extra column 'x'"):
            small(extra={"x": wrong})
    with pytest.raises(ValueError, match="infinite number in row 2"):
        small(extra={"x": [1.0, 2.0, math.inf, 3.0]})
    for name in ("helpful", "preference_helpful", "preference_x"):
        with pytest.raises(ValueError, match="rename"):
            small(extra={name: [1, 2, 3, 4]})


def test_metadata_must_fit_into_json_from_the_start():
    assert small().metadata == {"seed": 3, "reference_point": [3, 3], "model": {"id": "x", "rank": 8}}
    assert small(metadata={"a": tensor([1.0, 2.0])}).metadata == {"a": [1.0, 2.0]}
    for wrong in (object(), math.nan, {"deep": [math.inf]}):
        with pytest.raises(ValueError, match=r"metadata\['bad'\]"):
            small(metadata={"bad": wrong})


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"names": ("a\ud800", "b")}, "names: 'a.ud800' holds"),
        ({"extra": {"answer": ["x", "y\udfff"]}}, "extra column 'answer', row 1, holds"),
        ({"extra": {"ans\ud800wer": [1, 2]}}, "extra column 'ans.ud800wer' holds"),
        ({"metadata": {"note": {"deep": ["\ud800"]}}}, r"metadata\['note'\] holds"),
        ({"metadata": {"no\ud800te": 1}}, r"metadata\['no.ud800te'\] holds"),
    ],
)
def test_half_of_a_character_is_refused_when_a_front_is_made(options, place):
    options = {"names": ("a", "b")} | options
    with pytest.raises(ValueError, match=f"{place} .*half of a character, which no file can hold"):
        Front([[1, 0], [0, 1]], [[0, 1], [1, 0]], **options)


def test_a_text_that_an_array_would_cut_is_refused():
    assert small(extra={"note": ["a\0b", "", "c", "d"]}).extra["note"][0] == "a\0b"
    with pytest.raises(ValueError, match="'note' has a text that ends in a NUL character in row 1"):
        small(extra={"note": ["a", "b\0", "c", "d"]})


def test_metadata_that_json_cannot_hold_is_told_in_few_words():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    for value in (nested, 10**5_000, {"x": [math.nan]}, object(), b"bytes" * 10_000):
        with pytest.raises(ValueError, match=r"metadata\['x'\] .*cannot be written as JSON") as refusal:
            small(metadata={"x": value})
        assert len(str(refusal.value)) < 1_000


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"x": 3}, "extra column 'x' is 3, of type int: give a list"),
        ({"x": np.array(3)}, "extra column 'x' is .*: give a list"),
        ({"x": tensor(3.0)}, "extra column 'x' is .*: give a list"),
        ({"x": [[1], [2, 3], [], [4]]}, "extra column 'x' cannot be read as cells"),
        ({"x": torch.ones(4, device="meta")}, "extra column 'x' is a tensor on the meta device"),
        ({"x": torch.ones(4).to_sparse()}, "extra column 'x' is a sparse"),
        ({3: [1, 2, 3, 4]}, "extra has the name 3, of type int: give a text"),
    ],
)
def test_extra_columns_that_hold_no_cells_are_refused_by_name(extra, message):
    with pytest.raises((TypeError, ValueError), match=message):
        small(extra=extra)
