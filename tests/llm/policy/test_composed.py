import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import ComposedPolicy, Policy, Response, Sampling
from mopref.llm.policy.composed import groups_of_preferences
from mopref.objectives import DPO

NAMES = ("helpful", "harmless")
SEQUENCES = collate_sequences([[5, 9], [7]], [[3], [4, 6]])
SAMPLING = Sampling(max_new_tokens=2, stop_token_ids=())


class Swapped(ComposedPolicy):
    """The model at the other preference."""

    def composed_log_probabilities(self, sequences, preferences, sampling):
        return Policy(self.module, sampling).token_log_probabilities(sequences, preferences.flip(1))

    def composed_responses(self, prompt_ids, preferences, sampling, greedy):
        return [Response([len(ids), int(10 * row[0])], False) for ids, row in zip(prompt_ids, preferences, strict=True)]


@pytest.fixture(scope="module")
def model(make_llama, randomise):
    return Swapped(randomise(PreferenceModel(make_llama(), SVDLoRAConfig(NAMES, rank=2, preference_rank=2)))).eval()


def test_a_policy_has_its_log_probabilities_and_the_models_reference(model):
    with torch.no_grad():
        own = Policy(model).token_log_probabilities(SEQUENCES, [0.2, 0.8])
        assert torch.equal(own, Policy(model.module).token_log_probabilities(SEQUENCES, [0.8, 0.2]))
        reference = Policy(model.module).reference_log_probabilities(SEQUENCES)
    assert torch.equal(Policy(model).reference_log_probabilities(SEQUENCES), reference)
    assert not torch.allclose(own, reference, atol=1e-2)


def test_an_objective_is_measured_and_differentiated_through_it(model, make_pairs):
    rows = make_pairs([[0, 1], [1, 0]])
    losses = DPO(NAMES).mean_losses(model, rows, [[0.2, 0.8]], 2)
    assert torch.allclose(losses, DPO(NAMES).mean_losses(model.module, rows, [[0.8, 0.2]], 2))
    Policy(model).sequence_log_probabilities(SEQUENCES, [0.2, 0.8]).sum().backward()
    assert all(layer.U.grad.any() for layer in model.module.adapters.values())
    model.zero_grad()


def test_samples_are_its_own_each_prompt_as_often_as_asked(model):
    samples = Policy(model, SAMPLING).sample([[5, 9], [7]], [[0.2, 0.8], [0.6, 0.4]], 2)
    assert [response.ids for response in samples.responses] == [[2, 2], [2, 2], [1, 6], [1, 6]]
    sequences = collate_sequences([[5, 9]], [[2, 2]])
    with torch.no_grad():
        expected = Policy(model, SAMPLING).token_log_probabilities(sequences, [0.2, 0.8])
    assert torch.allclose(samples.outputs.log_probabilities[:1], expected, atol=1e-5)


def test_what_it_has_not_is_refused(model):
    with pytest.raises(ValueError, match="no head inputs"):
        Policy(model).token_outputs(SEQUENCES, [0.2, 0.8], with_head_inputs=True)
    with pytest.raises(ValueError, match="preferences"):
        Policy(model, SAMPLING).sample([[5]], None, 1)
    with pytest.raises(TypeError, match="module"):
        Swapped(nn.Linear(1, 1))


def test_what_distributes_a_model_would_not_see_it(model):
    class Distributed(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    with pytest.raises(ValueError, match="train it on one process"):
        Policy(Distributed(model))


def test_rows_of_one_preference_are_grouped():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert [places for _, places in groups_of_preferences(rows, 3)] == [[0, 2], [1]]
    assert [places for _, places in groups_of_preferences(rows[:1], 3)] == [[0, 1, 2]]
