"""Optima, regret and hypervolume of bandits, against a general solver and sums by hand."""

import pytest
import torch
from scipy.optimize import minimize

from mopref import PreferenceModel, SVDLoRAConfig, simplex_lattice
from mopref.known_fronts import LabelBandit, RewardBandit, scalarizer_optimum, tiny_llama
from mopref.objectives import Problem
from mopref.scalarizers import PBI, Linear, Tchebycheff

KINDS = (RewardBandit, LabelBandit)


def small_bandit(kind, m=3, prompts=2, vocabulary=6, seed=0):
    return kind.random(tiny_llama(vocabulary=vocabulary, hidden=8, seed=seed), m, prompts=prompts, seed=seed)


def smallest_value(bandit, preference, ideal):
    """min t subject to λ_i (f_i − z_i) ≤ t over all logits, by a solver that knows nothing of the problem's form."""
    shape = bandit.reference.shape

    def losses(x, gradient=False):
        logits = torch.from_numpy(x[:-1]).reshape(shape).requires_grad_()
        terms = preference * (bandit.losses_of(logits.log_softmax(-1)) - ideal)
        if not gradient:
            return (x[-1] - terms.detach()).numpy()
        rows = [torch.autograd.grad(term, logits, retain_graph=True)[0].reshape(-1) for term in terms]
        return torch.cat([-torch.stack(rows), torch.ones(len(terms), 1)], dim=1).double().numpy()

    start = torch.cat([bandit.reference.reshape(-1), torch.ones(1)]).double().numpy()
    slope = torch.cat([torch.zeros(len(start) - 1), torch.ones(1)]).double().numpy()
    result = minimize(
        lambda x: x[-1],
        start,
        jac=lambda x: slope,
        constraints={"type": "ineq", "fun": losses, "jac": lambda x: losses(x, gradient=True)},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 2000},
    )
    assert result.success, result.message
    return result.fun


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("preference", [[0.2, 0.3, 0.5], [0.6, 0.0, 0.4], [1.0, 0.0, 0.0]])
def test_tchebycheffs_optimum_is_a_general_solvers(kind, preference):
    bandit = small_bandit(kind)
    scalarizer = Tchebycheff(ideal=bandit.ideal_point)
    found = bandit.optimum(preference, scalarizer)
    expected = smallest_value(bandit, torch.tensor(preference, dtype=torch.float64), bandit.ideal_point)
    assert found.scalarized.item() == pytest.approx(expected, abs=1e-6)
    weights = torch.tensor([preference], dtype=torch.float64)
    assert scalarizer(found.values, weights).item() == found.scalarized.item()


@pytest.mark.parametrize("kind", KINDS)
def test_no_policy_is_better_than_the_linear_optimum(kind):
    """The scalarized loss has slope 0 in the logits there, and no perturbation is better."""
    bandit = small_bandit(kind)
    generator = torch.Generator().manual_seed(0)
    for preference in simplex_lattice(3, 6).double():
        logits = bandit.reference.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([logits], max_iter=300, tolerance_grad=1e-12, tolerance_change=0.0)

        def closure(logits=logits, optimizer=optimizer, preference=preference):
            optimizer.zero_grad()
            loss = preference @ bandit.losses_of(logits.log_softmax(-1))
            loss.backward()
            return loss

        optimizer.step(closure)
        best = bandit.optimum(preference)
        reached = bandit.losses_of(logits.detach().log_softmax(-1))
        torch.testing.assert_close(reached, best.values[0], atol=1e-6, rtol=0)
        noise = 0.3 * torch.randn(20, *logits.shape, generator=generator)
        others = bandit.losses_of((logits.detach() + noise).log_softmax(-1)) @ preference
        assert (others > best.scalarized).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_oracle_finds_the_same(kind):
    """The front is a function of the weights, so the search over a known Pareto set applies."""
    bandit = small_bandit(kind, m=2)

    class Mixtures(Problem):
        def __init__(self):
            super().__init__(num_variables=1, num_objectives=2)

        def evaluate(self, x):
            return bandit.linear_optima(torch.cat([x, 1 - x], dim=1))

        def pareto_set(self, num_points):
            return torch.linspace(0, 1, num_points).double().unsqueeze(1)

    preferences = simplex_lattice(2, 9).double()
    for scalarizer in (Linear(), Tchebycheff(ideal=bandit.ideal_point)):
        known = scalarizer_optimum(Mixtures(), scalarizer, preferences, num_points=200)
        torch.testing.assert_close(
            bandit.optimum(preferences, scalarizer).scalarized, known.scalarized, atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_models_losses_are_those_of_each_prompt_by_itself(kind, randomise):
    base = tiny_llama(vocabulary=10, hidden=16)
    bandit = kind.random(base, 2, prompts=3)
    model = randomise(PreferenceModel(base, SVDLoRAConfig(("f1", "f2"), rank=2, preference_rank=1)))
    preferences = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    one_by_one = torch.stack(
        [
            torch.cat(
                [model(prompt[None], preferences=preference).logits[:, -1].double() for prompt in bandit.prompts]
            ).log_softmax(-1)
            for preference in preferences
        ]
    )
    losses = bandit.losses(model, None, preferences)
    torch.testing.assert_close(losses, bandit.losses_of(one_by_one), atol=1e-6, rtol=0)
    assert (losses[0] - losses[1]).abs().max() > 1e-3, "λ matters, or the test is vacuous"
    with model.disabled():
        torch.testing.assert_close(bandit.log_probabilities(model)[0], bandit.reference)
    assert torch.equal(kind.random(model, 2, prompts=3).reference, bandit.reference), "adapters are left out"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [2, 3])
def test_the_exact_front_regrets_nothing_and_the_base_does(kind, m):
    bandit = small_bandit(kind, m=m, vocabulary=12)
    preferences = simplex_lattice(m, 10)
    exact = bandit.optimum(preferences).values
    assert bandit.regret(exact, preferences).abs().max() < 1e-12
    assert bandit.hypervolume_ratio(exact, preferences) == 1.0
    untrained = bandit.losses_of(bandit.reference).expand(len(preferences), -1)
    by_hand = [float(row @ (f - best)) for row, f, best in zip(preferences.double(), untrained, exact, strict=True)]
    assert bandit.regret(untrained, preferences).tolist() == pytest.approx(by_hand)
    assert min(by_hand) > 0
    assert bandit.hypervolume_ratio(untrained, preferences) < 0.9


def test_the_spread_between_corners_by_hand():
    """Reference uniform, β tiny: corner i takes its best token, whose rewards are written here."""
    base = tiny_llama(vocabulary=4, hidden=8)
    rewards = torch.tensor([[[0.0, 0.0], [1.0, 0.25], [0.5, 1.0], [0.0, 0.0]]])
    bandit = RewardBandit(base, [[3, 3]], rewards, beta=1e-6)
    torch.testing.assert_close(bandit.corners, -torch.tensor([[1.0, 0.25], [0.5, 1.0]]).double(), atol=1e-4, rtol=0)
    assert bandit.corner_spread == pytest.approx((0.5 + 0.75) / 2, abs=1e-4)
    expected = torch.tensor([-0.5 + 0.05, -0.25 + 0.075]).double()
    torch.testing.assert_close(bandit.reference_point, expected, atol=1e-4, rtol=0)


def test_another_scalarizer_is_refused():
    bandit = small_bandit(RewardBandit, m=2)
    for scalarizer in (PBI(ideal=[-1, -1]), Tchebycheff()):
        with pytest.raises(ValueError, match="give one of them"):
            bandit.optimum([[0.5, 0.5]], scalarizer)


@pytest.mark.parametrize(
    "prompts", [[[3, 4], [3, 4]], [3, 4], [[0.5], [1.0]], [[4], [3]], [[-1], [3]], torch.zeros(0, 2)]
)
def test_prompts_that_are_no_different_rows_are_refused(prompts):
    with pytest.raises(ValueError, match="prompts"):
        RewardBandit(tiny_llama(vocabulary=4, hidden=8), prompts, torch.zeros(2, 4, 2))


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_beta_that_is_not_positive_is_refused(kind, beta):
    with pytest.raises(ValueError, match="beta"):
        kind.random(tiny_llama(vocabulary=6, hidden=8), beta=beta, prompts=2)


@pytest.mark.parametrize("kind", KINDS)
def test_more_prompts_than_there_are_are_refused_at_once(kind):
    with pytest.raises(ValueError, match="81 different ones"):
        kind.random(tiny_llama(vocabulary=6, hidden=8), prompts=82)
