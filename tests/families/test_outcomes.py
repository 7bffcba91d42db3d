import pytest
import torch
from outcomes import Cell, Deviation, Warned, difference, outcome, verdict, warnings_of_mopref

from mopref.conditioning.wrapping import refuse_single_text, select_linear_layers


def _raises(error: Exception):
    def column() -> str:
        raise error

    return column


def _refuses() -> str:
    refuse_single_text("objectives", "abc")
    return "right"


def _fails_inside_mopref() -> str:
    select_linear_layers(None)  # type: ignore[arg-type]
    return "right"


def test_outcomes_by_what_a_column_does():
    assert outcome(lambda: "right") == Cell("right")
    assert outcome(_raises(Deviation("0.5 off"))) == Cell("wrong: 0.5 off")
    assert outcome(_raises(Warned("not exact."))).kind == "refused"
    assert outcome(_raises(RuntimeError("shapes differ"))).text == "foreign: RuntimeError: shapes differ"


def test_a_refusal_is_a_raise_statement_of_mopref():
    cell = outcome(_refuses)
    assert cell.text.startswith("refused: objectives is the single text 'abc'")
    assert cell.place.startswith("mopref.conditioning.wrapping:")
    # The same type of error from elsewhere is none, nor one that a line of mopref ran into.
    assert outcome(_raises(ValueError("give a list of them"))).kind == "foreign"
    assert outcome(_fails_inside_mopref).kind == "foreign"
    assert outcome(_fails_inside_mopref).place.startswith("mopref.conditioning.wrapping:")


def test_faults_are_wrong_numbers_and_foreign_errors():
    kinds = ("right", "refused: a", "base: a", "wrong: a", "foreign: a")
    assert [Cell(text).is_fault for text in kinds] == [False, False, False, True, True]


def test_difference_is_relative_to_the_largest_and_infinite_where_not_finite():
    expected = torch.tensor([10.0, -20.0])
    assert difference(torch.tensor([10.0, -19.0]), expected) == pytest.approx(1 / 20)
    assert difference(torch.tensor([0.25]), torch.tensor([0.0])) == 0.25
    assert difference(torch.tensor([torch.nan, -20.0]), expected) == float("inf")
    assert difference(torch.tensor([10.0]), expected) == float("inf")


def test_verdict_asks_the_base_only_where_the_model_differs():
    assert verdict(1e-5, lambda: 1 / 0, "padding") == "right"
    assert verdict(0.5, lambda: 0.25, "padding") == "base: padding changes the base's own outputs, by 0.25."
    with pytest.raises(Deviation, match=r"0\.5 of the largest value"):
        verdict(0.5, lambda: 0.0, "padding")
    # What the base does explains a difference of its own size only.
    with pytest.raises(Deviation):
        verdict(0.5, lambda: 0.01, "padding")
    with pytest.raises(Deviation):
        verdict(float("nan"), lambda: 0.0, "padding")


def test_warnings_of_mopref_are_told_from_others():
    import warnings

    with warnings_of_mopref() as texts:
        warnings.warn("adapter a.b was never called.", stacklevel=1)
        warnings.warn("a scheduler is old.", stacklevel=1)
    assert texts == ["adapter a.b was never called."]
