"""Scalarizers made for a problem: normalised by its points, whatever they are measured from."""

import pytest
import torch

from mopref.objectives import ZDT1, Problem, ScaledZDT1
from mopref.scalarizers import SCALARIZERS, Hypervolume, Normalized, SmoothTchebycheff, scalarizer_for_problem

LOSSES = torch.tensor([[0.2, 0.9], [0.5, 0.3]], dtype=torch.float64)
PREFERENCES = torch.tensor([[0.3, 0.7], [0.5, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize("name", SCALARIZERS)
def test_every_registered_scalarizer_is_blind_to_the_scale_of_the_problem(name):
    plain = scalarizer_for_problem(name, ZDT1())(LOSSES, PREFERENCES)
    scale = torch.tensor([10.0, 0.01], dtype=torch.float64)
    scaled = scalarizer_for_problem(name, ScaledZDT1(scales=(10.0, 0.01)))(LOSSES * scale, PREFERENCES)
    assert plain.isfinite().all()
    torch.testing.assert_close(scaled, plain)


def test_points_follow_from_the_normalisation():
    made = scalarizer_for_problem("hypervolume", ZDT1())
    assert isinstance(made, Normalized)
    expected = Hypervolume(reference_point=[1.1, 1.1])(LOSSES, PREFERENCES)
    torch.testing.assert_close(made(LOSSES, PREFERENCES), expected)


def test_options_reach_the_scalarizer():
    made = scalarizer_for_problem("smooth-tchebycheff", ZDT1(), mu=0.7)
    torch.testing.assert_close(made(LOSSES, PREFERENCES), SmoothTchebycheff([0, 0], mu=0.7)(LOSSES, PREFERENCES))


def test_unknown_names_and_points_are_refused():
    class Unknown(Problem):
        def __init__(self):
            super().__init__(num_variables=1, num_objectives=2)

        def evaluate(self, x):
            return torch.cat([x, 1 - x], dim=-1)

    with pytest.raises(ValueError, match="points of Unknown are not known: use Normalized"):
        scalarizer_for_problem("linear", Unknown())
    with pytest.raises(ValueError, match="unknown scalarizer 'lineal'"):
        scalarizer_for_problem("lineal", ZDT1())
