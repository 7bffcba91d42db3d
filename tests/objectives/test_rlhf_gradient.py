"""RLHF's losses and gradients against exact sums over every response of a tiny Llama.

The vocabulary has twelve tokens, so all responses of one to three tokens can be listed: E r_i, KL(π_λ‖π_ref) and
their gradients in the adapters are exact, by autograd through plain forwards. Sampled estimates must have them as their
means. Token 0, with which shorter rows are padded, is an ordinary token here that can be sampled.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch
from rlhf_problems import RewardProblem, first_losses, list_responses, reward_of_tokens, shown_to_rewards
from torch.nn.functional import cosine_similarity

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling
from mopref.llm.policy_gradient import PPO
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards

PROMPTS = [[3, 4, 5, 0, 6], [7, 8]]
BETA = 0.3
SAMPLES = 4

# Sampling, vocabulary and number of objectives.
CASES = {
    "one token": (Sampling(max_new_tokens=1, stop_token_ids=()), 12, 2),
    "two tokens": (Sampling(max_new_tokens=2, stop_token_ids=(2, 9)), 12, 3),
    "three tokens": (Sampling(max_new_tokens=3, stop_token_ids=(2, 5)), 9, 2),
    "tempered": (Sampling(max_new_tokens=2, temperature=1.5, stop_token_ids=(2, 9)), 12, 2),
    "no early stop": (Sampling(max_new_tokens=2, min_new_tokens=1, stop_token_ids=(2, 9)), 12, 2),
    "nothing stops": (Sampling(max_new_tokens=2, stop_token_ids=()), 12, 2),
}
PREFERENCES = {
    2: torch.tensor([[0.8, 0.2], [0.0, 1.0]]),
    3: torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.0, 0.3]]),
}
ALGORITHMS = {"rloo": "rloo", "grpo": "grpo", "ppo": PPO(gae_lambda=1.0)}


def make_problem(name: str) -> RewardProblem:
    """The last reward is always 0, so that the last loss is β KL alone."""
    sampling, vocabulary, m = CASES[name]
    responses = list_responses(vocabulary, sampling)
    rewards = reward_of_tokens(len(PROMPTS), shown_to_rewards(responses, sampling.stop_token_ids), m, seed=1)
    rewards[..., -1] = 0.0
    return RewardProblem(PROMPTS, responses, rewards, sampling, BETA)


@pytest.fixture(scope="module")
def make_model(make_llama, randomise):
    """A tiny Llama with random adapters, so that its policy is not the reference and depends on λ."""

    def make(name: str) -> PreferenceModel:
        _, vocabulary, m = CASES[name]
        base = make_llama(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            std=0.3,
        )
        config = SVDLoRAConfig(objectives=tuple("abc"[:m]), rank=2, preference_rank=2)
        return randomise(PreferenceModel(base, config), std=0.35)

    return make


def adapter_parameters(model: PreferenceModel) -> list[torch.Tensor]:
    return [
        parameter for layer in model.adapters.values() for parameter in (layer.U, layer.V, layer.sigma, layer.scale)
    ]


def gradient(value: torch.Tensor, model: PreferenceModel) -> torch.Tensor:
    """∂ value / ∂ (all parameters of the adapters), flat."""
    parts = torch.autograd.grad(value, adapter_parameters(model), retain_graph=True)
    return torch.cat([part.reshape(-1) for part in parts]).double()


def weights_to_try(preferences: torch.Tensor) -> dict[str, torch.Tensor]:
    """Weights ``(G, m)`` of the losses: λ itself, a first group's that sum to 1.6, and KL alone in a second group."""
    m = preferences.shape[1]
    sum_above_one, kl_alone = torch.zeros_like(preferences), torch.zeros_like(preferences)
    sum_above_one[0] = 1.6 * torch.linspace(1.0, 0.2, m) / torch.linspace(1.0, 0.2, m).sum()
    kl_alone[1, -1] = 1.0
    return {"λ": preferences, "sum 1.6, first group": sum_above_one, "KL alone, second group": kl_alone}


def sample_losses(rlhf, model, problem, preferences, repeats, copies):
    """Losses ``(G, m)`` of so many batches, each with every prompt ``copies`` times for each preference."""
    rows = problem.rows(copies * len(preferences))
    torch.manual_seed(0)
    for _ in range(repeats):
        yield first_losses(rlhf, model, rows, preferences)


def mean_and_error(samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over the first dimension and its standard error."""
    return samples.mean(0), samples.std(0) / len(samples) ** 0.5


@pytest.mark.parametrize("name", CASES)
def test_the_enumeration_is_complete(name, make_model):
    """Guards the truth: probabilities sum to 1, policy and reference differ, and λ matters."""
    model, problem = make_model(name), make_problem(name)
    policies = []
    for preference in PREFERENCES[problem.m]:
        policy, reference = problem.log_probabilities(model, preference), problem.log_probabilities(model, None)
        ones = torch.ones(len(PROMPTS), dtype=torch.float64)
        # Rounding in the model's float32, since prefixes are computed anew for each response.
        torch.testing.assert_close(policy.exp().sum(-1), ones, atol=1e-5, rtol=0)
        torch.testing.assert_close(reference.exp().sum(-1), ones, atol=1e-5, rtol=0)
        _, kl = problem.terms(model, preference)
        assert (kl > 0.1).all()
        policies.append(policy)
    assert (policies[0].exp() - policies[1].exp()).abs().sum(-1).min() > 0.1
    ends = torch.tensor([response[0] in problem.sampling.stop_token_ids for response in problem.responses])
    assert ends.any() == (name in ("two tokens", "three tokens", "tempered"))
    if ends.any():
        assert policies[0].exp()[:, ends].sum(-1).max() > 0.05, "empty responses do come"


@pytest.mark.parametrize("name", ["two tokens", "three tokens"])
def test_the_enumeration_equals_padded_log_probabilities(name, make_model):
    """Without temperature and a masked stop token, log π of a response is that of the padded batch."""
    model, problem = make_model(name), make_problem(name)
    preference = PREFERENCES[problem.m][0]
    prompts = [prompt for prompt in PROMPTS for _ in problem.responses]
    sequences, policy = collate_sequences(prompts, problem.responses * len(PROMPTS)), Policy(model)
    with torch.no_grad():
        values = policy.sequence_log_probabilities(sequences, preference.unsqueeze(0))
        expected = problem.log_probabilities(model, preference).reshape(-1)
    torch.testing.assert_close(values.double(), expected, atol=1e-4, rtol=1e-4)
    reference, expected = (
        policy.reference_log_probabilities(sequences).sum(dim=1),
        problem.log_probabilities(model, None),
    )
    torch.testing.assert_close(reference.double(), expected.reshape(-1), atol=1e-4, rtol=1e-4)


def test_the_exact_gradient_is_the_score_functions(make_model):
    """∇ E r − β ∇ KL = E[∇ log π · (r − β log π/π_ref)], summed over every response: autograd against the formula."""
    model, problem = make_model("two tokens"), make_problem("two tokens")
    preference = PREFERENCES[3][0]
    direct = gradient((preference * problem.losses(model, preference.unsqueeze(0))[0]).sum(), model)
    policy, reference = problem.log_probabilities(model, preference), problem.log_probabilities(model, None)
    reward = problem.rewards @ preference.double() - BETA * (policy - reference)
    surrogate = -((policy.exp() * reward).detach() * policy).sum(-1).mean()
    torch.testing.assert_close(gradient(surrogate, model), direct, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def sample(make_model):
    """Sampled losses ``(repeats, G, m)`` and gradients ``(repeats, D)`` for each choice of weights; each drawn once."""

    @cache
    def draw(algorithm: str, name: str, repeats: int = 16, copies: int = 50):
        model, problem = make_model(name), make_problem(name)
        preferences = PREFERENCES[problem.m]
        rlhf = problem.objective(ALGORITHMS[algorithm], samples_per_prompt=SAMPLES)
        rlhf.prepare_model(model)
        choices = weights_to_try(preferences)
        losses, gradients = [], {key: [] for key in choices}
        for sampled in sample_losses(rlhf, model, problem, preferences, repeats, copies):
            losses.append(sampled.detach().double())
            for key, weights in choices.items():
                gradients[key].append(gradient((weights * sampled).sum(), model))
        return torch.stack(losses), {key: torch.stack(samples) for key, samples in gradients.items()}

    return draw


RUNS = [("rloo", name) for name in CASES] + [(a, name) for a in ("grpo", "ppo") for name in ("one token", "two tokens")]


@pytest.mark.parametrize(("algorithm", "name"), RUNS)
def test_gradient_has_the_exact_direction_and_length(algorithm, name, make_model, sample):
    """Cosine ≥ .99 for every choice of weights; unbiased in length, where GRPO's own mean takes 1/S of it away."""
    share = (SAMPLES - 1) / SAMPLES if algorithm == "grpo" else 1.0
    model, problem = make_model(name), make_problem(name)
    exact_losses = problem.losses(model, PREFERENCES[problem.m])
    for key, weights in weights_to_try(PREFERENCES[problem.m]).items():
        exact, sampled = gradient((weights * exact_losses).sum(), model), sample(algorithm, name)[1][key]
        cosine = cosine_similarity(sampled.mean(0), exact, dim=0)
        along, error = mean_and_error(sampled @ exact / (exact @ exact))
        assert error < 0.06, f"weights {key}: too few samples to tell 1 from (S − 1)/S, standard error {error:.3f}"
        assert cosine >= 0.99, f"weights {key}: cosine {cosine:.4f}"
        assert abs(along - share) <= 4 * error, f"weights {key}: {along:.3f} ± {error:.3f} of the exact length"


@pytest.mark.parametrize(("algorithm", "name"), RUNS)
def test_values_are_the_exact_losses(algorithm, name, make_model, sample):
    """The mean of the losses is −J_i for the preference of each group; the last one, of a reward 0, is β KL.

    So the KL estimate is unbiased, and masked tokens and temperature count for the policy and for the reference.
    """
    model, problem = make_model(name), make_problem(name)
    with torch.no_grad():
        exact = problem.losses(model, PREFERENCES[problem.m])
    losses, _ = sample(algorithm, name)
    mean, error = mean_and_error(losses)
    assert (error[:, -1] < 0.05 * exact[:, -1]).all(), "too few samples to see KL"
    assert (losses[..., -1] > 0).all()
    assert ((mean - exact).abs() <= 4 * error).all(), f"{mean} for {exact}, standard errors {error}"


@pytest.mark.parametrize("reverse", [False, True])
def test_every_group_has_its_own_rows_and_its_own_preference(reverse, make_model):
    """Two groups with one prompt each: loss g is that of group g's prompt under λ_g, whatever the order."""
    model, problem = make_model("two tokens"), make_problem("two tokens")
    preferences, order = PREFERENCES[3], [1, 0] if reverse else [0, 1]
    rlhf = problem.objective(samples_per_prompt=SAMPLES)
    rows = [{"prompt_ids": PROMPTS[prompt]} for prompt in order for _ in range(60)]
    torch.manual_seed(0)
    with torch.no_grad():
        losses = torch.stack([first_losses(rlhf, model, rows, preferences) for _ in range(30)]).double()
        exact = []
        for prompt, preference in zip(order, preferences, strict=True):
            rewards, kl = problem.terms(model, preference)
            exact.append(BETA * kl[prompt] - rewards[prompt])
    mean, error = mean_and_error(losses)
    exact = torch.stack(exact)
    assert (exact[0] - exact[1]).abs().max() > 20 * error.max(), "the groups differ, or this test says nothing"
    assert ((mean - exact).abs() <= 4 * error).all(), f"{mean} for {exact}, standard errors {error}"


@pytest.mark.parametrize("name", ["two tokens", "tempered", "no early stop"])
def test_evaluated_rewards_and_kl_are_the_exact_ones(name, make_model):
    """E r_i and KL(π_λ‖π_ref) of fresh samples, at every preference: the sampling settings count for both policies."""
    model, problem = make_model(name), make_problem(name)
    preferences, samples = PREFERENCES[problem.m], 4000
    settings = problem.objective(samples_per_prompt=samples).settings
    statistics = evaluate_rewards(model, settings, problem.rows(), preferences, batch_size=3)
    for index, preference in enumerate(preferences):
        with torch.no_grad():
            rewards, kl = (part.mean(0) for part in problem.terms(model, preference))
        # Of 8,000 responses the means are this far off at most: five standard errors of rewards of some units.
        torch.testing.assert_close(statistics.rewards[index], rewards, atol=0.1, rtol=0)
        assert statistics.kl[index].item() == pytest.approx(kl.item(), abs=0.05)
        assert kl > 0.2


def test_the_global_seed_gives_the_same_losses_twice(make_model):
    model, problem = make_model("two tokens"), make_problem("two tokens")
    rlhf = problem.objective(samples_per_prompt=SAMPLES)

    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return first_losses(rlhf, model, problem.rows(2 * 3), PREFERENCES[3]).detach()

    first = draw(0)
    assert not torch.equal(draw(1), first)
    assert torch.equal(draw(0), first)


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_group_normalisation_of_pairs_counts_wins(algorithm, make_model):
    """Of two samples with rewards r > r', normalised, the advantages are ±1 times a constant, whatever r − r'.

    Without KL the gradient is then that of the probability of having the higher reward against a sample of the same
    policy, Σ π(y) π(y') sign(r_i(y) − r_i(y')), the second factor held fixed.
    """
    model, problem = make_model("one token"), make_problem("one token")
    rewards = reward_of_tokens(len(PROMPTS), problem.responses, 2, seed=1)
    problem, preferences = replace(problem, rewards=rewards, beta=0.0), PREFERENCES[2]
    rlhf = problem.objective(algorithm, samples_per_prompt=2, normalization="group")
    wins = (rewards[:, :, None] - rewards[:, None]).sign()
    policies = torch.stack([problem.log_probabilities(model, preference).exp() for preference in preferences])
    exact = -torch.einsum("gpy,gpz,pyzi->gpi", policies, policies.detach(), wins).mean(1)
    plain = problem.losses(model, preferences)
    [sampled] = sample_losses(rlhf, model, problem, preferences, repeats=1, copies=5000)
    for weights in (preferences, torch.tensor([[0.8, 0.8], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])):
        expected, unnormalised = gradient((weights * exact).sum(), model), gradient((weights * plain).sum(), model)
        assert cosine_similarity(gradient((weights * sampled).sum(), model), expected, dim=0) >= 0.99
        assert cosine_similarity(unnormalised, expected, dim=0) < 0.95, "normalisation would not show"
