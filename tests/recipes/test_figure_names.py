"""Names of objectives beside the figures of a run: those that clash are refused, all others taken."""

import pytest

from mopref.recipes import RecipeError
from mopref.recipes.figure_names import check_compared_names, check_export_names, check_figure_names


@pytest.mark.parametrize(
    "names",
    [
        ("helpful", "harmless"),
        ("low", "high"),
        ("a", "b_a"),
        ("loss", "step"),
        ("accuracy", "x"),
        ("nett & höflich", "短い"),
    ],
    ids="-".join,
)
def test_names_that_clash_with_nothing(names):
    check_figure_names(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("kl", "a"), "holds 'kl': a figure of another kind is called 'kl'"),
        (("a", "accuracy_a"), "holds 'accuracy_a'"),
        (("a", "a_low"), "is called 'a_low'"),
        (("x", "x_low", "x_high"), "holds"),
        (("points_in_file", "a"), "holds 'points_in_file'"),
        (("a", "mean_response_length"), "holds 'mean_response_length'"),
        (("a,b", "c"), "holds 'a,b': a name with ',' in it cannot be used in commands"),
        (("c=d", "c"), "'=' in it"),
        (("a/b", "c"), "'/' in it"),
        (("a\x1b", "c"), "in it"),
        ((" a", "c"), "a blank at an end"),
        (("a",), "two objectives or more only"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_names_that_clash_are_refused(names, message):
    with pytest.raises(RecipeError, match=f"^objectives .*{message}"):
        check_figure_names(names)


@pytest.mark.parametrize(
    "names", [("hypervolume", "a"), ("a", "seed"), ("method", "a"), ("reference_point_b", "b")], ids="-".join
)
def test_columns_of_compared_methods_are_no_objectives(names):
    check_figure_names(names)
    with pytest.raises(RecipeError, match=r"^objectives holds '\w+': compared methods are told with a column"):
        check_compared_names(names)
    check_compared_names(("helpful", "reference_point_b"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("shared", "c"),
            "'shared', which is the name of the LoRA that all preferences share: train",
        ),
        (("a:b", "c"), "'a:b' cannot name a folder of its own, .*: train with a name without slashes and colons"),
        (("Brief", "brief"), "alike but for capital letters"),
        (("x" * 201, "c"), "more than 200 bytes"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_names_that_no_export_has_are_refused(names, message):
    with pytest.raises(RecipeError, match=f"^objectives: .*{message}"):
        check_export_names(names)
    check_export_names(("helpful", "harmless"))


def test_the_names_of_directions_are_no_objectives_of_a_gate_of_all_layers():
    for gate in ("linear", "layer-mlp"):
        check_export_names(("direction-1", "harmless"), gate)
    with pytest.raises(RecipeError, match=r"^objectives: .*'direction-1', as the LoRAs of directions are"):
        check_export_names(("direction-1", "harmless"), "shared-mlp")
