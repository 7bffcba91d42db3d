import numpy as np
import pytest
import torch

from mopref.baselines import METHODS, MethodOptions, PromptWriter, Trainings, make_method
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.evaluation import preference_front
from mopref.llm.policy import Policy
from mopref.preferences import simplex_lattice

PREFERENCES = simplex_lattice(2, 3)
OPTIONS = MethodOptions(PREFERENCES, PromptWriter(lambda preference: [20 + round(9 * w) for w in preference]))


@pytest.fixture(scope="module")
def policies(trainings):
    return {name: make_method(name, trainings, OPTIONS) for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_measured_by_the_same_evaluator(name, policies, trainings, rows):
    policy = policies[name]
    front = preference_front(policy.model, trainings.setup.objective, rows, PREFERENCES, interval_level=None)
    assert policy.name == name
    assert policy.objectives == trainings.setup.names
    assert np.isfinite(front.values).all()
    for preference, values in zip(PREFERENCES, front.values, strict=True):
        own = policy.at(preference).mean_losses(trainings.setup.objective, rows)
        assert np.allclose(own.numpy(), values, atol=1e-5)
    assert policy.budget.stored_parameters > 0
    assert policy.budget.passes_per_token >= 1


def test_methods_differ(policies, trainings, rows):
    """A table of one number is no comparison."""
    values = {}
    for name, policy in policies.items():
        if not METHODS[name].is_control:
            at = policy.at([0.5, 0.5]).mean_losses(trainings.setup.objective, rows)
            values[name] = tuple(at.numpy().round(6).tolist())
    assert len(set(values.values())) == len(values)


def test_an_unknown_method_is_refused_with_the_known_ones(trainings):
    with pytest.raises(ValueError, match=r"no method 'soup': choose among ours, paper"):
        make_method("soup", trainings, OPTIONS)


def test_a_prompt_needs_a_writer(trainings):
    with pytest.raises(ValueError, match="writer is None"):
        make_method("prompt", trainings, MethodOptions(torch.eye(2)))


@pytest.mark.parametrize("name", ["dps", "prompt", "mod", "shuffled"])
def test_a_composed_policy_is_called_on_prompts_as_a_problem_calls_a_model(name, policies):
    """Its logits of the next token are those that its log-probabilities are of."""
    model, prompts = policies[name].model, torch.tensor([[5, 6, 7], [8, 9, 4]])
    preferences = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    sequences = collate_sequences(
        prompts.repeat_interleave(100, 0).tolist(), [[t] for _ in range(2) for t in range(100)]
    )
    with torch.no_grad():
        own = model(prompts, preferences=preferences).logits[:, -1].log_softmax(-1)
        expected = Policy(model).sequence_log_probabilities(sequences, preferences.repeat_interleave(100, 0))
    assert torch.allclose(own.float().flatten(), expected, atol=1e-4)


def test_methods_on_pairs_say_so_where_there_are_none(make_setup):
    setup = make_setup(rows=None)
    for name in ("modpo", "activation"):
        with pytest.raises(ValueError, match="rows are None"):
            make_method(name, Trainings(setup), OPTIONS)
