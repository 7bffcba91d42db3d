"""RLHF with the pull to the reference as an objective of its own: what a weight of it asks for, and refusals."""

from dataclasses import replace

import pytest
import torch
from rlhf_inputs import PREFERENCES, ROWS, SAMPLING, even, gradients, length, make_rlhf
from rlhf_problems import RewardProblem, bandit, first_losses
from torch.nn.functional import cosine_similarity

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.known_fronts.reward_bandit import kl_losses, kl_optimum
from mopref.llm.policy_gradient import PPO
from mopref.llm.policy_gradient.critic import Critic
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.rewards import token_reward
from mopref.objectives import RLHF
from mopref.samplers import ConeSampler, cone_preferences
from mopref.scalarizers import Linear

NAMES = ("length", "even", "close")


@pytest.fixture
def model(make_llama, randomise) -> PreferenceModel:
    """A tiny Llama with random adapters for two rewards and the pull."""
    return randomise(PreferenceModel(make_llama(), SVDLoRAConfig(NAMES, rank=2, preference_rank=2)), std=0.15)


# What a weight of the pull is.


@token_reward
def nothing(prompt_ids, response_ids):
    return [0.0] * len(response_ids)


@pytest.mark.parametrize("normalization", [None, "running"])
@pytest.mark.parametrize("algorithm", ["rloo", "grpo", "ppo"])
def test_a_weight_c_of_the_pull_is_a_penalty_c_beta_in_every_loss(algorithm, normalization, model):
    """Of the weighted sum, and of its gradient in the adapters, on the same samples of the same model.

    Without a pull, the third objective of this model has a reward of 0 and the penalty alone, so that the weights of
    all penalties sum to 1. That at the balance λ it is β·c/(1 − c) follows: see tests/llm/policy_gradient/
    test_pull.py, where the critics' values are not 0 either.
    """
    share = 0.4
    preferences = torch.cat([PREFERENCES * (1 - share), torch.full((2, 1), share)], dim=1)
    torch.testing.assert_close(preferences, cone_preferences(PREFERENCES, 1.5, 2).float())
    options = {"algorithm": algorithm, "normalization": normalization, "samples_per_prompt": 3, "sampling": SAMPLING}
    rewards = {"length": length, "even": even}
    losses, slopes = [], []
    for rlhf in (
        RLHF(rewards, beta=0.5, pull="close", **options),
        RLHF({**rewards, "close": nothing}, beta=share * 0.5, **options),
    ):
        rlhf.prepare_model(model)
        torch.manual_seed(0)
        values = first_losses(rlhf, model, ROWS, preferences)
        losses.append((preferences * values).sum(dim=1).detach())
        slopes.append(gradients(model, values, preferences))
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(*slopes, atol=1e-6, rtol=1e-5)
    assert slopes[0].abs().max() > 1e-2


def test_without_a_weight_of_the_pull_nothing_pulls(model):
    """The gradient at λ_pull = 0 is the same whatever β, and at λ_pull = 1 it is β times something."""
    slopes = {}
    for weights in ((0.3, 0.7, 0.0), (0.0, 0.0, 1.0)):
        preferences = torch.tensor([weights])
        for beta in (0.1, 1.0):
            torch.manual_seed(0)
            rlhf = make_rlhf(beta=beta, pull="close")
            slopes[weights[2], beta] = gradients(model, first_losses(rlhf, model, ROWS, preferences), preferences)
    assert torch.equal(slopes[0.0, 0.1], slopes[0.0, 1.0])
    torch.testing.assert_close(10 * slopes[1.0, 0.1], slopes[1.0, 1.0])
    assert min(slope.abs().max() for slope in slopes.values()) > 1e-3


# Against exact sums over all responses of one token.


def exact_losses(problem: RewardProblem, model: PreferenceModel, preferences: torch.Tensor) -> torch.Tensor:
    """−E r_i and β KL, the means over prompts: ``(N, m + 1)``, differentiable."""
    rows = []
    for preference in preferences:
        rewards, kl = problem.terms(model, preference)
        rows.append(torch.cat([-rewards.mean(0), problem.beta * kl.mean(0, keepdim=True)]))
    return torch.stack(rows)


@pytest.fixture
def bandit_model(make_llama) -> PreferenceModel:
    return PreferenceModel(make_llama(vocab_size=24, num_hidden_layers=1), SVDLoRAConfig(("a", "b", "c")))


@pytest.mark.parametrize("algorithm", ["rloo", "grpo", PPO(gae_lambda=1.0)])
def test_the_expected_losses_and_gradients_are_the_exact_ones(algorithm, bandit_model, randomise):
    """With 3,000 samples for each preference: of all losses weighted by λ, and of each alone.

    PPO's critic says about what is to be expected, or so few samples would not do.
    """
    problem, model = bandit(beta=0.5), randomise(bandit_model, std=0.4)
    rlhf = problem.objective(algorithm, samples_per_prompt=1500, pull="c")
    rlhf.prepare_model(model)
    preferences = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    exact = exact_losses(problem, model, preferences)
    if "critic" in model.companions:
        model.companions["critic"].output.bias.data = -exact.detach().mean(0).float()
    torch.manual_seed(0)
    sampled = first_losses(rlhf, model, problem.rows(2), preferences)
    torch.testing.assert_close(sampled.double(), exact, atol=0.03, rtol=0)
    assert (exact[:, 2] > 0.2).all(), "the policies are away from the reference"
    adapters = [parameter for layer in model.adapters.values() for parameter in (layer.U, layer.V, layer.sigma)]

    def slope(losses, weights):
        parts = torch.autograd.grad((weights * losses).sum(), adapters, retain_graph=True)
        return torch.cat([part.reshape(-1) for part in parts]).double()

    for weights in (preferences, *torch.eye(3)):
        expected, found = slope(exact, weights), slope(sampled, weights)
        assert cosine_similarity(found, expected, dim=0) > 0.97
        assert found @ expected / (expected @ expected) == pytest.approx(1, abs=0.1)


def test_one_model_learns_every_strength(bandit_model):
    """Trained on samples over the cone: what it leaves of its base's regret, by the exact optima of each strength.

    It leaves most where the pull is strongest, since there is least to gain.
    """
    problem, model = bandit(), bandit_model
    rlhf = problem.objective(samples_per_prompt=16, pull="c")
    config = TrainerConfig(
        steps=80, batch_size=8, preferences_per_step=4, learning_rate=1e-2, log_every=80, progress=False
    )
    sampler = ConeSampler(rlhf.names)
    ParetoTrainer(model, rlhf, Linear(), sampler=sampler, train_data=problem.rows(), config=config).train()
    balances = simplex_lattice(2, 5).double()
    kl = {}
    for strength, most in ((0.25, 0.75), (1.0, 0.2), (4.0, 0.2)):
        asked = replace(problem, beta=problem.beta / strength)
        with torch.no_grad():
            preferences = cone_preferences(balances, strength, 2).float()
            reference = asked.log_probabilities(model, None)
            policies = torch.stack([asked.log_probabilities(model, preference) for preference in preferences])
        best = kl_optimum(reference, asked.rewards, asked.beta, balances)

        def loss(policies, asked=asked, reference=reference):
            return (balances * kl_losses(policies, reference, asked.rewards, asked.beta)).sum(1).mean()

        base = reference.expand_as(policies)
        left = (loss(policies) - loss(best)) / (loss(base) - loss(best))
        assert 0 < left < most, f"at {strength}: {left:.3f}"
        kl[strength] = (policies.exp() * (policies - reference)).sum(-1).mean()
    assert kl[0.25] < 0.2 * kl[1.0] < 0.2 * kl[4.0]


# What has m + 1 parts, and what has m.


def test_names_critic_history_and_scales(model):
    rlhf = make_rlhf(algorithm="ppo", normalization="running", pull="close")
    assert rlhf.names == NAMES
    rlhf.prepare_model(model)
    critic = model.companions["critic"]
    assert isinstance(critic, Critic)
    assert critic.output.out_features == 3
    preferences = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    torch.manual_seed(0)
    update = rlhf.updates(model, rlhf.collate(ROWS), preferences)[0]
    losses = rlhf.training_losses(model, update.batch, update.preferences)
    assert losses.values.shape == (2, 3)
    losses.auxiliary.backward()
    assert (critic.output.bias.grad != 0).all(), "each of its three values is learned"
    assert rlhf.reward_scales.shape == (2,)
    for record, weights in zip(rlhf.history, preferences.tolist(), strict=True):
        assert [record[f"preference/{name}"] for name in NAMES] == pytest.approx(weights)
        assert {key for key in record if key.startswith("reward/")} == {"reward/length", "reward/even"}
    assert update.metrics["kl"].value == pytest.approx(sum(record["kl"] for record in rlhf.history) / 2)
    # The loss of the pull is β KL, of the rewards they themselves over their deviations.
    expected = [[-record["reward/length"], -record["reward/even"], 0.1 * record["kl"]] for record in rlhf.history]
    expected = torch.tensor(expected) / torch.cat([rlhf.reward_scales, torch.ones(1)])
    torch.testing.assert_close(losses.values.detach().double(), expected.double(), atol=1e-5, rtol=1e-5)


def test_mean_losses_are_rewards_and_the_pull_on_fresh_samples(model):
    rlhf = make_rlhf(normalization="running", truncation_penalty=3.0, seed=4, pull="close")
    preferences = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    torch.manual_seed(0)
    first_losses(rlhf, model, ROWS, preferences)
    values = rlhf.mean_losses(model, ROWS, preferences, batch_size=3)
    statistics = evaluate_rewards(model, rlhf.settings, ROWS, preferences, 3, seed=4)
    torch.testing.assert_close(values[:, :2], -statistics.rewards / rlhf.reward_scales)
    torch.testing.assert_close(values[:, 2], 0.1 * statistics.kl)
    assert (rlhf.reward_scales != 1).all()
    assert statistics.kl.min() > 0.01


def test_a_drowned_reward_is_told_of_rewards_alone(model):
    """The spread of the pull is nobody's: with it there are still two rewards to be compared."""
    large = token_reward(lambda prompts, responses: [1000.0 * len(ids) for ids in responses])
    rlhf = RLHF(
        {"length": large, "even": even}, samples_per_prompt=3, sampling=SAMPLING, normalization=None, pull="close"
    )
    preferences = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    batch = rlhf.collate(ROWS)
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="the reward 'length' varies .* as much as 'even'"):
        assert all(rlhf.updates(model, batch, preferences) for _ in range(12))


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pull": "even"}, "pull is 'even', which is the name of a reward"),
        ({"pull": "kl"}, "pull is 'kl', which fronts call the KL itself"),
        ({"pull": "close", "beta": 0.0}, r"beta is 0\.0, and pull 'close' is β·KL, which would be 0: give beta > 0"),
        ({"pull": "close", "normalization": "group"}, "normalization is 'group', and pull is 'close': .* choose"),
    ],
)
def test_a_pull_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_rlhf(**options)


def test_a_model_without_the_pull_is_refused(make_llama):
    model = PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("length", "even")))
    rlhf = make_rlhf(pull="close")
    config = TrainerConfig(steps=1, batch_size=4, preferences_per_step=2, progress=False, cpu=True)
    with pytest.raises(ValueError, match=r"RLHF has .*\(length, even, close\), the model \(length, even\)"):
        ParetoTrainer(model, rlhf, Linear(), train_data=ROWS, config=config)
    with pytest.raises(ValueError, match=r"the set of rewards has the objectives \(length, even, close\)"):
        rlhf.mean_losses(model, ROWS, torch.tensor([[0.5, 0.3, 0.2]]), 2)
    with pytest.raises(
        ValueError, match=r"preferences have shape \(4, 2\): give a weight for each of length, even, close"
    ):
        rlhf.updates(model, rlhf.collate(ROWS), PREFERENCES)
