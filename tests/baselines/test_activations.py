import pytest
import torch

from mopref.baselines.activations import ActivationAddition, activation_addition, mean_differences
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling

PROMPT, RESPONSE = [5, 9, 11], [3, 4]


@pytest.fixture(scope="module")
def directions(trainings):
    setup = trainings.setup
    return mean_differences(setup.make_model(setup.adapter), setup.objective, setup.rows, block=0, batch_size=3)


def test_directions_are_mean_differences_of_the_bases_hidden_states(directions, base, rows):
    """By transformers' own hidden states, one sequence at a time."""

    def state(row, response):
        ids = torch.tensor([row["prompt_ids"] + row[response]])
        with torch.no_grad():
            states = base(input_ids=ids, output_hidden_states=True).hidden_states[1]
        return states[0, len(row["prompt_ids"]) :].mean(dim=0)

    for index in range(2):
        differences = []
        for row in rows:
            label = row["labels"][index]
            if label >= 0:
                differences.append(state(row, f"response_{label}_ids") - state(row, f"response_{1 - label}_ids"))
        assert torch.allclose(directions[index], torch.stack(differences).mean(dim=0), atol=1e-4)
    assert directions.norm(dim=1).min() > 0.1


def test_the_last_blocks_states_are_moved_before_the_head(trainings, base, directions):
    setup = trainings.setup
    model = ActivationAddition(setup.make_model(setup.adapter), directions, block=-1, strength=2.0)
    sequences = collate_sequences([PROMPT], [RESPONSE])
    with torch.no_grad():
        own = Policy(model).token_log_probabilities(sequences, [0.25, 0.75])
        caught = []
        handle = base.model.layers[-1].register_forward_hook(
            lambda _, __, output: caught.append(output[0] if isinstance(output, tuple) else output)
        )
        base(input_ids=torch.tensor([PROMPT + RESPONSE]))
        handle.remove()
        moved = caught[0] + 2.0 * (0.25 * directions[0] + 0.75 * directions[1])
        logits = base.lm_head(base.model.norm(moved))[0].log_softmax(-1)
    for place, token in enumerate(RESPONSE):
        assert own[0, place].item() == pytest.approx(logits[len(PROMPT) - 1 + place, token].item(), abs=1e-4)


def test_without_strength_it_is_the_base_and_each_row_has_its_own(trainings, directions):
    setup = trainings.setup
    sequences = collate_sequences([PROMPT, [7]], [RESPONSE, [8]])
    preferences = [[1.0, 0.0], [0.0, 1.0]]
    still = ActivationAddition(setup.make_model(setup.adapter), directions, block=0, strength=0.0)
    with torch.no_grad():
        reference = Policy(still).reference_log_probabilities(sequences)
        assert torch.allclose(Policy(still).token_log_probabilities(sequences, preferences), reference, atol=1e-5)
        model = ActivationAddition(still.module, directions, block=0)
        together = Policy(model).token_log_probabilities(sequences, preferences)
        assert not torch.allclose(together, reference, atol=1e-2)
        for row, preference in enumerate(preferences):
            alone = Policy(model).token_log_probabilities(sequences.rows(torch.tensor([row])), preference)
            assert torch.allclose(together[row], alone[0], atol=1e-5)
        assert torch.allclose(Policy(model).reference_log_probabilities(sequences), reference, atol=1e-5)


def test_answers_are_of_the_moved_base(trainings, directions):
    setup = trainings.setup
    model = ActivationAddition(setup.make_model(setup.adapter), directions, block=0, strength=3.0)
    sampling = Sampling(max_new_tokens=1, stop_token_ids=())
    preferences = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    responses = model.composed_responses([PROMPT, PROMPT], preferences, sampling, greedy=True)
    everything = collate_sequences([PROMPT] * 100, [[token] for token in range(100)])
    for response, preference in zip(responses, preferences, strict=True):
        with torch.no_grad():
            likeliest = int(Policy(model).token_log_probabilities(everything, preference).argmax())
        assert response.ids == [likeliest]


def test_nothing_is_trained(trainings):
    policy = activation_addition(trainings.setup)
    assert (policy.budget.runs, policy.budget.steps, policy.budget.trained_parameters) == (0, 0, 0)
    assert policy.budget.stored_parameters == 2 * 64
    assert policy.notes["block"] == 1


def test_a_block_that_is_not_there_is_refused(trainings):
    with pytest.raises(ValueError, match="block is 2, but the model has 2"):
        activation_addition(trainings.setup, block=2)


def test_an_objective_without_a_label_is_refused(trainings, rows):
    setup = trainings.setup
    unlabelled = [{**row, "labels": [row["labels"][0], -1]} for row in rows]
    with pytest.raises(ValueError, match="no row is labelled on 'harmless'"):
        mean_differences(setup.make_model(setup.adapter), setup.objective, unlabelled, block=0)
