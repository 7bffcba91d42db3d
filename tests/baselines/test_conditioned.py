from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from mopref.baselines import Trainings, runs
from mopref.baselines.conditioned import (
    _derangement,
    fixed_preference,
    ours,
    paper,
    paper_config,
    pblora,
    pblora_config,
    shuffled_preferences,
)
from mopref.conditioning import SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Sampling
from mopref.preferences import simplex_lattice

SEQUENCES = collate_sequences([[5, 9, 11]], [[3, 4]])


@pytest.fixture(scope="module")
def policy(make_setup):
    """One that was trained long enough for λ to matter."""
    from dataclasses import replace

    from mopref.baselines import Trainings

    setup = make_setup()
    return ours(Trainings(replace(setup, config=replace(setup.config, steps=10, learning_rate=3e-2))))


def at(policy, preference):
    with torch.no_grad():
        return policy.at(preference).log_probabilities(SEQUENCES)


def test_ours_is_one_run_of_the_setup(policy):
    assert (policy.budget.runs, policy.budget.steps) == (1, 10)
    assert not torch.allclose(at(policy, [1.0, 0.0]), at(policy, [0.0, 1.0]), atol=1e-3)


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
def test_the_papers_preset_has_the_same_total_rank(names):
    adapter = SVDLoRAConfig(names, rank=5, preference_rank=3, layers=(0,), seed=7)
    own = paper_config(adapter)
    assert own.total_rank == adapter.total_rank
    assert (own.preference_rank, own.initialization, own.layers, own.seed) == (1, "paper", (0,), 7)
    assert own.scaling == 512 / own.rank


@pytest.fixture
def made(monkeypatch) -> list[dict[str, Any]]:
    """The options of each trainer that is made."""
    options_of_all: list[dict[str, Any]] = []

    class Watched(runs.ParetoTrainer):
        def __init__(self, **options):
            options_of_all.append(options)
            super().__init__(**options)

    monkeypatch.setattr(runs, "ParetoTrainer", Watched)
    return options_of_all


def test_the_papers_preset_is_trained_on_one_preference_a_step(make_setup, made):
    paper(Trainings(make_setup()))
    (options,) = made
    assert type(options["sampler"]).__name__ == "VertexBiasedSampler"
    assert (options["config"].preferences_per_step, options["config"].learning_rate) == (1, 2e-3)


def test_pblora_has_the_same_total_rank_and_the_setups_own_training(make_setup, made):
    adapter = SVDLoRAConfig(("a", "b"), rank=5, preference_rank=3, scaling=2.0, layers=(0,), seed=7, gate="layer-mlp")
    own = pblora_config(adapter)
    assert (own.total_rank, own.objective_rank, own.core, own.gate) == (adapter.total_rank, 6, "full", "linear")
    assert (own.initialization, own.scaling, own.layers, own.seed) == ("pblora", 2.0, (0,), 7)
    setup = make_setup()
    policy = pblora(Trainings(setup))
    (options,) = made
    assert options["config"] == setup.config
    assert policy.model.adapter_config == pblora_config(setup.adapter)
    assert policy.model.preference_convention == "importance"
    layers = policy.model.adapters.values()
    # U, V, C_0 (2 × 2) and C_1, C_2 (2 × 2).
    expected = sum((layer.n_out + layer.n_in) * 4 + 4 + 2 * 4 for layer in layers)
    assert policy.budget.trained_parameters == policy.budget.stored_parameters == expected
    assert not torch.allclose(at(policy, [1.0, 0.0]), at(policy, [0.0, 1.0]), atol=1e-7)


def test_a_fixed_preference_is_the_centre_whatever_is_asked_for(policy):
    control = fixed_preference(policy)
    for share in (0.0, 0.3, 1.0):
        assert torch.equal(at(control, [share, 1 - share]), at(policy, [0.5, 0.5]))
    assert control.budget == policy.budget


def test_shuffled_preferences_are_answered_with_others(policy):
    lattice = simplex_lattice(2, 4)
    control = shuffled_preferences(policy, lattice, seed=3)
    for place, preference in enumerate(lattice.tolist()):
        other = lattice[control.notes["places"][place]].tolist()
        assert other != preference
        assert torch.equal(at(control, preference), at(policy, other))


def test_samples_of_a_control_are_those_of_the_other_preference(policy):
    sampling = Sampling(max_new_tokens=3, stop_token_ids=())
    control = fixed_preference(policy)
    asked = control.at([1.0, 0.0]).sample([[5, 9]] * 8, sampling, seed=1)
    assert asked == policy.at([0.5, 0.5]).sample([[5, 9]] * 8, sampling, seed=1)
    assert asked != policy.at([1.0, 0.0]).sample([[5, 9]] * 8, sampling, seed=1)


@given(count=st.integers(2, 12), seed=st.integers(0, 10**6))
def test_no_place_stays_as_it_is(count, seed):
    places = _derangement(count, seed)
    assert sorted(places) == list(range(count))
    assert all(place != other for place, other in enumerate(places))


def test_one_preference_cannot_be_shuffled(policy):
    with pytest.raises(ValueError, match="1 preferences cannot be shuffled"):
        shuffled_preferences(policy, torch.tensor([[0.5, 0.5]]))
