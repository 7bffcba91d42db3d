"""Trained on sampled responses, one model recovers fronts that are known exactly.

* A bandit, KL-regularised rewards over one-token responses: π_λ ∝ π_ref · exp(Σ λ_i r_i / β), a convex front.
* A policy with one degree of freedom, a bump over ordered tokens: a concave front, known by trying every place of the
  bump. Linear scalarization finds its two ends only, Tchebycheff all of it.

What a trained model reaches is summed over all responses, never sampled.
"""

from statistics import median

import pytest
import torch
from rlhf_problems import (
    BumpHead,
    RewardProblem,
    bandit,
    bump_logits,
    bump_places,
    hypervolume_ratio,
    losses_of_policies,
    optimal_losses,
)

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.llm.policy import Sampling
from mopref.scalarizers import Linear, Tchebycheff

LATTICE = simplex_lattice(2, 11).float()
ALGORITHMS = ("rloo", "grpo", "ppo")
CONFIG = SVDLoRAConfig(objectives=("a", "b"))


def train(model, problem, scalarizer, algorithm, steps, samples=16, seed=0) -> None:
    """Train on sampled responses: 4 preferences a step, each with every prompt once."""
    rlhf = problem.objective(algorithm, samples_per_prompt=samples)
    config = TrainerConfig(
        steps=steps,
        batch_size=4 * len(problem.prompts),
        preferences_per_step=4,
        learning_rate=5e-3,
        log_every=steps,
        progress=False,
        seed=seed,
    )
    ParetoTrainer(model, rlhf, scalarizer, train_data=problem.rows(), config=config).train()


# A convex front: the bandit.


def bandit_ratio(make_small_llama, algorithm: str, seed: int) -> float:
    """Hypervolume of the trained model's exact −J_i, of that of the closed form."""
    problem = bandit(seed=seed)
    model = PreferenceModel(make_small_llama(seed), CONFIG)
    exact = optimal_losses(problem, problem.log_probabilities(model, None), LATTICE)
    with torch.no_grad():
        untrained = problem.losses(model, LATTICE)
        assert hypervolume_ratio(untrained, exact) < 0.5, "most of the volume is still to be learned"
    train(model, problem, Linear(), algorithm, steps=200, seed=seed)
    with torch.no_grad():
        learned = problem.losses(model, LATTICE)
    regret = (LATTICE * (learned - exact)).sum(-1)
    assert regret.min() >= -1e-5, f"better than the exact optimum by {-regret.min():.2e}: a wrong truth"
    return hypervolume_ratio(learned, exact)


@pytest.fixture(scope="module")
def make_small_llama(make_llama):
    def make(seed: int = 0):
        return make_llama(vocab_size=24, num_hidden_layers=1, seed=seed)

    return make


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_recovers_the_front_of_the_bandit(algorithm, make_small_llama):
    assert bandit_ratio(make_small_llama, algorithm, seed=0) >= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_recovers_the_front_of_the_bandit_with_three_seeds(algorithm, make_small_llama):
    ratios = [bandit_ratio(make_small_llama, algorithm, seed) for seed in range(3)]
    assert median(ratios) >= 0.985, ratios


# A concave front: a policy that is a bump over ordered tokens, moved between the best of a and the best of b.

VOCABULARY, WIDTH = 24, 0.1
PLACES = torch.linspace(-0.3, 1.3, 4001, dtype=torch.float64)
# No reward is above 1, and the KL of a few samples may come out a little below 0: this lies below every sampled loss.
IDEAL = [-1.05, -1.05]
MIDDLE = LATTICE[5:6]


def concave_problem() -> RewardProblem:
    """r_a = exp(−2 |p|) and r_b = exp(−2 |p − 1|) for a token at place p: halfway, both are low.

    One prompt only: with two, the policy could be good for a on one and good for b on the other, and means over
    prompts would fill the front's hollow.
    """
    places = bump_places(VOCABULARY)
    return RewardProblem(
        prompts=[[5, 6, 7]],
        responses=[(token,) for token in range(VOCABULARY)],
        rewards=torch.stack([torch.exp(-2 * (places - end).abs()) for end in (0, 1)], dim=-1).unsqueeze(0),
        sampling=Sampling(max_new_tokens=1, stop_token_ids=()),
        beta=0.003,
    )


def attainable_losses(places: torch.Tensor) -> torch.Tensor:
    """−J_i with the bump at each place, ``(N,)`` to ``(N, 2)``; the reference stands at ½."""
    policies = bump_logits(places, VOCABULARY, WIDTH).log_softmax(-1).unsqueeze(1)
    reference = bump_logits(torch.tensor([0.5], dtype=torch.float64), VOCABULARY, WIDTH).log_softmax(-1)
    return losses_of_policies(concave_problem(), policies, reference)


def tchebycheff_values(losses: torch.Tensor, preferences: torch.Tensor) -> torch.Tensor:
    """max_i λ_i (f_i − z_i) of every loss under every preference: ``(N, 2)`` and ``(L, 2)`` to ``(L, N)``."""
    return (preferences[:, None].double() * (losses - torch.tensor(IDEAL))).amax(-1)


def tchebycheff_optima(preferences: torch.Tensor) -> torch.Tensor:
    """The best attainable −J for max_i λ_i (f_i − z_i), by trying every place: ``(L, 2)`` to ``(L, 2)``."""
    losses = attainable_losses(PLACES)
    return losses[tchebycheff_values(losses, preferences).argmin(-1)]


def linear_optima(weights: int = 1001) -> torch.Tensor:
    """The best attainable −J for w f_1 + (1 − w) f_2 at evenly spread w: ``(weights, 2)``."""
    losses = attainable_losses(PLACES)
    return losses[(simplex_lattice(2, weights).double() @ losses.T).argmin(-1)]


def test_no_linear_scalarization_reaches_the_middle():
    """Guards the truth: the optimum for λ = (½, ½) lies above the lower convex hull of all that is attainable.

    So it loses by a clear margin under every w, and the solutions of all w lose by a clear margin at λ.
    """
    losses = attainable_losses(PLACES)
    weights = simplex_lattice(2, 1001).double()
    middle = tchebycheff_optima(MIDDLE)
    lost = (weights @ middle.T).squeeze(-1) - (weights @ losses.T).amin(-1)
    span = (losses.max(0).values - losses.min(0).values).min()
    assert lost.min() > 0.1 * span
    best_of_linear = tchebycheff_values(linear_optima(), MIDDLE).min()
    assert best_of_linear > tchebycheff_values(middle, MIDDLE).item() + 0.1


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_tchebycheff_reaches_its_optima_on_a_concave_front(seed, make_small_llama):
    problem, base = concave_problem(), make_small_llama(seed)
    with torch.no_grad():
        hidden = base.model(torch.tensor(problem.prompts)).last_hidden_state[0, -1]
    base.lm_head = BumpHead(hidden, VOCABULARY, WIDTH)
    model = PreferenceModel(base, CONFIG)
    with torch.no_grad():
        start = problem.losses(model, MIDDLE)
        torch.testing.assert_close(start, attainable_losses(torch.tensor([0.5]).double()), atol=1e-5, rtol=0)

    train(model, problem, Tchebycheff(ideal=IDEAL), "rloo", steps=150, samples=32, seed=seed)
    with torch.no_grad():
        learned = problem.losses(model, LATTICE)
    exact = tchebycheff_optima(LATTICE)
    assert hypervolume_ratio(learned, exact) >= 0.98
    reached, best = tchebycheff_values(learned[5:6], MIDDLE).item(), tchebycheff_values(exact[5:6], MIDDLE).item()
    assert best - 1e-4 <= reached <= best + 0.01
    assert reached < tchebycheff_values(linear_optima(), MIDDLE).min() - 0.04, "linear scalarization would do as well"
