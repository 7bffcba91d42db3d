import pytest
import torch

from mopref.baselines import Budget, Cost, MethodPolicy
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling

NAMES = ("helpful", "harmless")


@pytest.fixture(scope="module")
def policy(trainings, randomise):
    setup = trainings.setup
    return MethodPolicy("one", randomise(setup.make_model(setup.adapter)).eval(), Budget())


def test_a_budget_is_the_sum_of_its_trainings():
    costs = [Cost(2, 5, 7, 11, 0.5), Cost(3, 1, 1, 1, 0.25)]
    budget = Budget.of(costs, stored_parameters=4, passes_per_token=2)
    assert budget == Budget(2, 5, 6, 12, 8, 4, 2, 0.75)


def test_a_policy_at_a_preference_is_the_models(policy, rows, trainings):
    sequences = collate_sequences([[5, 9]], [[3, 4]])
    with torch.no_grad():
        own = policy.at({"harmless": 0.75, "helpful": 0.25}).log_probabilities(sequences)
        assert torch.equal(own, Policy(policy.model).token_log_probabilities(sequences, [0.25, 0.75]))
    objective = trainings.setup.objective
    expected = objective.mean_losses(policy.model, rows, [0.25, 0.75], 4)[0]
    assert torch.allclose(policy.at([0.25, 0.75]).mean_losses(objective, rows), expected)


def test_it_samples_by_its_seed_and_leaves_the_random_state(policy):
    sampling = Sampling(max_new_tokens=5, stop_token_ids=())
    before = torch.random.get_rng_state()
    first, again, other = (policy.at([0.5, 0.5]).sample([[5, 9]], sampling, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_preference_at_a_time(policy):
    with pytest.raises(ValueError, match="2 preferences were given"):
        policy.at([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="sum"):
        policy.at([1.0, 1.0])
