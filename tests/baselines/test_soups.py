import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from mopref.baselines import bone_mixing, bone_preferences
from mopref.baselines.plain_lora import trained_lora
from mopref.baselines.soups import bone_soup, corner_loras, rewarded_soup
from mopref.preferences import simplex_lattice

TOKENS = torch.tensor([[5, 6, 7, 8]])


def logits(model, preference=None):
    with torch.no_grad():
        given = {} if preference is None else {"preferences": torch.tensor(preference)}
        return model(input_ids=TOKENS, **given).logits


def test_the_mixing_weights_of_two_objectives():
    corners = bone_mixing(torch.eye(2))
    assert torch.allclose(corners, torch.tensor([[1.75, -0.75], [-0.75, 1.75]]).double())
    assert torch.allclose(bone_mixing(torch.tensor([[0.5, 0.5]])), torch.tensor([[0.5, 0.5]]).double())


@given(m=st.integers(2, 6), share=st.floats(0.05, 1.0))
def test_they_are_the_inverse_of_the_runs_preferences(m, share):
    beta = 1 / m + share * (1 - 1 / m)
    rows = np.array([[beta if i == j else (1 - beta) / (m - 1) for j in range(m)] for i in range(m)])
    lattice = simplex_lattice(m, m * (m + 1) // 2)
    weights = bone_mixing(lattice, beta)
    assert np.allclose(bone_preferences(m, beta), rows)
    assert np.allclose(rows.T @ weights.numpy().T, lattice.numpy().T, atol=1e-9)
    assert np.allclose(weights.sum(dim=1), 1.0)


@pytest.mark.parametrize(("m", "beta"), [(2, 0.5), (3, 0.2), (2, 1.5), (1, 0.7)])
def test_runs_that_cannot_be_mixed_are_refused(m, beta):
    with pytest.raises(ValueError, match=r"beta|num_objectives"):
        bone_preferences(m, beta)


def test_a_rewarded_soup_is_the_mean_of_the_corner_runs(trainings, merged):
    policy = rewarded_soup(trainings)
    loras = corner_loras(trainings)
    for weights in ([1.0, 0.0], [0.25, 0.75]):
        assert torch.allclose(logits(policy.model, weights), logits(merged(loras, weights)), atol=1e-5)
    assert policy.budget.runs == 2
    assert policy.budget.stored_parameters == sum(lora.num_parameters for lora in loras)


def test_a_bone_soup_mixes_interior_runs_with_negative_weights(trainings, merged):
    preferences = torch.tensor([[1.0, 0.0], [0.7, 0.3], [0.5, 0.5]], dtype=torch.float64)
    policy = bone_soup(trainings, preferences)
    loras = [trained_lora(trainings, [0.7, 0.3]), trained_lora(trainings, [0.3, 0.7])]
    for preference, weights in (([1.0, 0.0], [1.75, -0.75]), ([0.7, 0.3], [1.0, 0.0]), ([0.4, 0.6], [0.25, 0.75])):
        assert torch.allclose(logits(policy.model, preference), logits(merged(loras, weights)), atol=1e-5)
    assert policy.notes["negative_weights"] == 1
    assert np.allclose(policy.notes["mixing_weights"], [[1.75, -0.75], [1.0, 0.0], [0.5, 0.5]])
    assert policy.budget.runs == 2


def test_the_runs_are_those_of_the_scalarizer_at_their_preference(trainings):
    first, second = (trained_lora(trainings, [share, 1 - share]) for share in (1.0, 0.7))
    name = next(iter(first.factors))
    assert not torch.equal(first.factors[name][1], second.factors[name][1])
