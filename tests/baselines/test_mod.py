from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st

from mopref.baselines import mixed_log_probabilities, mixed_model
from mopref.baselines.mod import MODDecoding, mod
from mopref.conditioning import SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling

ADAPTER = SVDLoRAConfig(("helpful", "harmless"), rank=2, preference_rank=1)
PROMPT = [5, 9, 11]


@given(seed=st.integers(0, 10**6), m=st.integers(2, 4), beta=st.floats(0.2, 2.0))
def test_the_closed_form_on_a_one_step_problem(seed, m, beta):
    """KL-regularised rewards: π_λ ∝ π_ref·exp(Σ λ_i r_i/β) is the mixture of the optima of each reward alone."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(7, generator=generator).double().log_softmax(-1)
    rewards = torch.randn(m, 7, generator=generator).double()
    weights = torch.rand(m, generator=generator).double() + 1e-3
    weights /= weights.sum()
    of_each = (reference + rewards / beta).log_softmax(-1)
    expected = (reference + weights @ rewards / beta).log_softmax(-1)
    mixed = mixed_log_probabilities(of_each, weights[:, None]).log_softmax(-1)
    assert torch.allclose(mixed.double(), expected, atol=1e-5)


def test_a_forbidden_token_stays_forbidden_also_with_weight_0():
    logits = torch.tensor([[0.0, 1.0, -torch.inf], [2.0, 0.0, -torch.inf]])
    mixed = mixed_log_probabilities(logits, torch.tensor([[1.0], [0.0]])).softmax(-1)
    assert torch.allclose(mixed, logits[0].softmax(-1))


@pytest.fixture(scope="module")
def model(make_model, random_loras):
    return MODDecoding(mixed_model(make_model, ADAPTER, random_loras)).eval()


@pytest.fixture(scope="module")
def corners(merged, random_loras):
    return [merged(random_loras, [1.0, 0.0]), merged(random_loras, [0.0, 1.0])]


def expected_next(corners, next_log_probabilities, weight, prompt=PROMPT):
    first, second = (next_log_probabilities(corner, prompt) for corner in corners)
    return (weight * first + (1 - weight) * second).log_softmax(-1)


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.0])
def test_every_next_token_has_the_probability_of_the_mixture(model, corners, next_log_probabilities, weight):
    tokens = list(range(100))
    sequences = collate_sequences([PROMPT] * len(tokens), [[token] for token in tokens])
    with torch.no_grad():
        own = Policy(model).token_log_probabilities(sequences, [weight, 1 - weight])[:, 0]
    assert torch.allclose(own.double(), expected_next(corners, next_log_probabilities, weight), atol=1e-4)
    assert own.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_each_row_has_its_own_preference_and_later_tokens_their_own_mixture(model, corners, next_log_probabilities):
    prompts, responses = [[5, 9, 11], [7]], [[3, 4], [8, 6, 9]]
    weights = [0.25, 0.9]
    with torch.no_grad():
        own = Policy(model).token_log_probabilities(
            collate_sequences(prompts, responses), [[weight, 1 - weight] for weight in weights]
        )
    for row, (prompt, response, weight) in enumerate(zip(prompts, responses, weights, strict=True)):
        for place, token in enumerate(response):
            expected = expected_next(corners, next_log_probabilities, weight, prompt + response[:place])[token]
            assert own[row, place].item() == pytest.approx(expected.item(), abs=1e-4)
    assert own[0, 2] == 0


def test_what_is_below_all_corners_adapters_is_taken_from_the_rows_that_hold_it(make_model, random_loras):
    upper = [
        lora._replace(factors={name: own for name, own in lora.factors.items() if ".layers.1." in name})
        for lora in random_loras
    ]
    mixture = MODDecoding(mixed_model(make_model, replace(ADAPTER, layers=[-1]), upper)).eval()
    plain = collate_sequences([[5, 9, 11], [7]], [[3, 4], [8, 6, 9]])
    kept = Policy(mixture.module).with_lower_hidden_states(plain)
    policy, run = Policy(mixture), []
    hook = mixture.module.base_model.model.layers[0].mlp.register_forward_hook(lambda *_: run.append(1))
    with torch.no_grad():
        expected = policy.token_log_probabilities(plain, [[0.25, 0.75], [0.9, 0.1]])
        assert len(run) == 2
        own = policy.token_log_probabilities(kept, [[0.25, 0.75], [0.9, 0.1]])
    hook.remove()
    assert len(run) == 2
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)


def test_greedy_answers_take_the_likeliest_token_of_the_mixture(model, corners, next_log_probabilities):
    sampling = Sampling(max_new_tokens=3, stop_token_ids=())
    preferences = torch.tensor([[0.5, 0.5], [0.1, 0.9]])
    responses = model.composed_responses([PROMPT, [8, 4]], preferences, sampling, greedy=True)
    for response, prompt, (weight, _) in zip(responses, [PROMPT, [8, 4]], preferences.tolist(), strict=True):
        ids = list(prompt)
        for token in response.ids:
            assert token == int(expected_next(corners, next_log_probabilities, weight, ids).argmax())
            ids.append(token)
        assert len(response.ids) == 3


def test_samples_are_of_the_mixture(model, corners, next_log_probabilities):
    sampling = Sampling(max_new_tokens=1, stop_token_ids=())
    torch.manual_seed(0)
    samples = Policy(model, sampling).sample([PROMPT] * 1500, [0.5, 0.5], 2)
    drawn = torch.bincount(torch.tensor([response.ids[0] for response in samples.responses]), minlength=100) / 3000
    expected = expected_next(corners, next_log_probabilities, 0.5).exp()
    alone = expected_next(corners, next_log_probabilities, 1.0).exp()
    distance = 0.5 * (drawn - expected).abs().sum()
    # 3000 draws of a hundred tokens are about .05 off.
    assert distance < 0.1 < 0.5 * (drawn - alone).abs().sum()


def test_temperature_top_p_and_stop_tokens_are_kept(model):
    torch.manual_seed(0)
    cold = Sampling(max_new_tokens=4, temperature=1e-3, stop_token_ids=())
    greedy = model.composed_responses([PROMPT], torch.tensor([[0.5, 0.5]]), cold, greedy=True)
    assert Policy(model, cold).sample([PROMPT], [0.5, 0.5], 1).responses == greedy
    narrow = Sampling(max_new_tokens=4, top_p=1e-6, stop_token_ids=())
    assert Policy(model, narrow).sample([PROMPT], [0.5, 0.5], 1).responses == greedy
    first = greedy[0].ids[0]
    stopped = Sampling(max_new_tokens=4, temperature=1e-3, stop_token_ids=(first,))
    (response,) = Policy(model, stopped).sample([PROMPT], [0.5, 0.5], 1).responses
    assert response.ids == [first]
    assert response.finished


def test_recorded_log_probabilities_are_those_of_what_was_sampled(model):
    sampling = Sampling(max_new_tokens=3, temperature=0.7, stop_token_ids=(2,))
    policy = Policy(model, sampling)
    samples = policy.sample([PROMPT, [7]], [[0.5, 0.5], [1.0, 0.0]], 1)
    sequences = collate_sequences([PROMPT, [7]], [response.ids for response in samples.responses])
    with torch.no_grad():
        again = policy.token_log_probabilities(sequences, [[0.5, 0.5], [1.0, 0.0]])
    assert torch.allclose(samples.outputs.log_probabilities, again, atol=1e-5)


def test_a_token_takes_a_pass_for_each_objective(trainings):
    policy = mod(trainings)
    assert policy.budget.passes_per_token == 2
    assert policy.budget.runs == 2
