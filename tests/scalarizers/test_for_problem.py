"""Scalarizers made for a problem: normalised by its points, whatever they are measured from."""

import pytest
import torch
from _tensors import tensor

from mopref.objectives import ZDT1, Problem, ScaledZDT1
from mopref.scalarizers import SCALARIZERS, Hypervolume, Normalized, SmoothTchebycheff, scalarizer_for_problem

LOSSES = tensor([[0.2, 0.9], [0.5, 0.3]])
PREFERENCES = tensor([[0.3, 0.7], [0.5, 0.5]])


@pytest.mark.parametrize("name", [name for name in SCALARIZERS if name != "normalized"])
def test_every_registered_scalarizer_is_blind_to_the_scale_of_the_problem(name):
    plain = scalarizer_for_problem(name, ZDT1())(LOSSES, PREFERENCES)
    scale = tensor([10.0, 0.01])
    scaled = scalarizer_for_problem(name, ScaledZDT1(scales=(10.0, 0.01)))(LOSSES * scale, PREFERENCES)
    assert plain.isfinite().all()
    torch.testing.assert_close(scaled, plain)


def test_points_follow_from_the_normalisation():
    made = scalarizer_for_problem("hypervolume", ZDT1())
    assert isinstance(made, Normalized)
    expected = Hypervolume(reference_point=[1.1, 1.1])(LOSSES, PREFERENCES)
    torch.testing.assert_close(made(LOSSES, PREFERENCES), expected)


@pytest.mark.parametrize(("options", "place"), [({}, 1.1), ({"beyond": 0.0}, 1.0), ({"beyond": 0.5}, 1.5)])
def test_how_far_the_hypervolumes_point_lies_beyond_the_nadir_is_an_option(options, place):
    made = scalarizer_for_problem("hypervolume", ZDT1(), **options)
    assert made.scalarizer.reference_point.tolist() == [place, place]


def test_options_reach_the_scalarizer():
    made = scalarizer_for_problem("smooth-tchebycheff", ZDT1(), mu=0.7)
    torch.testing.assert_close(made(LOSSES, PREFERENCES), SmoothTchebycheff([0, 0], mu=0.7)(LOSSES, PREFERENCES))


def test_what_a_preference_says_reaches_the_scalarizer():
    for convention in ("importance", "ray"):
        made = scalarizer_for_problem("pbi", ZDT1(), convention=convention)
        assert made.convention == made.scalarizer.convention == convention
    assert scalarizer_for_problem("linear", ZDT1(), convention="importance").convention == "importance"
    with pytest.raises(ValueError, match=r"convention is 'ray', but 'linear' knows 'importance' only: .* leave the"):
        scalarizer_for_problem("linear", ZDT1(), convention="ray")
    with pytest.raises(ValueError, match="convention is 'rays': choose"):
        scalarizer_for_problem("linear", ZDT1(), convention="rays")


def test_unknown_names_and_points_are_refused():
    class Unknown(Problem):
        def __init__(self):
            super().__init__(num_variables=1, num_objectives=2)

        def evaluate(self, x):
            return torch.cat([x, 1 - x], dim=-1)

    with pytest.raises(ValueError, match="losses are normalised already: name the scalarizer"):
        scalarizer_for_problem("normalized", ZDT1())
    with pytest.raises(ValueError, match="points of Unknown are not known: use Normalized"):
        scalarizer_for_problem("linear", Unknown())
    with pytest.raises(ValueError, match="unknown scalarizer 'lineal'"):
        scalarizer_for_problem("lineal", ZDT1())


@pytest.mark.parametrize("missing", ["ideal_point", "nadir_point"])
def test_one_unknown_point_is_one_too_many(missing):
    problem = ZDT1()
    setattr(problem, missing, None)
    with pytest.raises(ValueError, match="the ideal and nadir points of ZDT1 are not known: use Normalized"):
        scalarizer_for_problem("linear", problem)


def test_what_is_no_problem_is_named():
    with pytest.raises(TypeError, match=r"problem is 'zdt1', of type str: give a Problem\."):
        scalarizer_for_problem("linear", "zdt1")


def test_its_arguments_have_names_and_a_convention_is_told_by_its_own():
    made = scalarizer_for_problem(name="linear", problem=ZDT1())
    torch.testing.assert_close(made(LOSSES, PREFERENCES), scalarizer_for_problem("linear", ZDT1())(LOSSES, PREFERENCES))
    with pytest.raises(TypeError, match="positional"):
        scalarizer_for_problem("pbi", ZDT1(), "ray")


@pytest.mark.parametrize(
    ("name", "option", "known"),
    [
        ("tchebycheff", "mu", "margin"),
        ("pbi", "ideal", "theta"),
        ("achievement", "reference_point", "convention|none"),
        ("linear", "margin", "none"),
    ],
)
def test_options_that_a_scalarizer_has_not_are_named(name, option, known):
    with pytest.raises(ValueError, match=rf"scalarizer '{name}' has no option '{option}' here.*it has .*({known})"):
        scalarizer_for_problem(name, ZDT1(), **{option: 0.1})
