"""A tiny Llama with SVD-LoRA recovers two fronts that are known exactly.

Both are language-model problems small enough to have a closed form for every λ:

* KL-regularised rewards over one-token responses: π_λ ∝ π_ref · exp(Σ λ_i r_i / β);
* DPO with noisy labels, one pair for each prompt: σ(β d) = Σ λ_i p_i.

Both fronts are convex, so linear scalarization reaches all of them. A learned and an exact front are compared by
hypervolume on the same lattice of λ, from one reference point: the worst value of each objective among the exact
solutions at the corners, plus a tenth of its range, so that every point of the exact front counts, the corners too.
"""

from itertools import pairwise

import pytest
import torch
from torch import nn

from mopref import Objective, ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.objectives import DPO
from mopref.scalarizers import Linear

VOCABULARY = 24


def hypervolume(values: torch.Tensor, reference: torch.Tensor) -> float:
    """Area (two objectives) or volume (three, by slices) between minimised points and the reference point."""
    points = [p for p in values.tolist() if all(a < b for a, b in zip(p, reference.tolist(), strict=True))]
    if len(reference) == 2:
        area, ceiling = 0.0, reference[1].item()
        for x, y in sorted(points):
            if y < ceiling:
                area += (reference[0].item() - x) * (ceiling - y)
                ceiling = y
        return area
    volume = 0.0
    heights = [*sorted({p[2] for p in points}), reference[2].item()]
    for low, high in pairwise(heights):
        slab = torch.tensor([p[:2] for p in points if p[2] <= low])
        volume += (high - low) * hypervolume(slab, reference[:2])
    return volume


def reference_point(corners: torch.Tensor) -> torch.Tensor:
    worst, best = corners.max(dim=0).values, corners.min(dim=0).values
    return worst + 0.1 * (worst - best)


def assert_recovers(learned: torch.Tensor, exact: torch.Tensor, preferences: torch.Tensor) -> None:
    """Hypervolume ratio ≥ .98, and nowhere below the optimum of the scalarized loss, which would be a wrong loss."""
    corners = exact[[(preferences == corner).all(-1).nonzero().item() for corner in torch.eye(preferences.shape[1])]]
    reference = reference_point(corners)
    ratio = hypervolume(learned, reference) / hypervolume(exact, reference)
    assert ratio >= 0.98, f"hypervolume ratio {ratio:.4f} from {reference.tolist()}"
    regret = (preferences * (learned - exact)).sum(-1)
    assert regret.min() >= -1e-4, f"better than the exact optimum by {-regret.min():.2e}"
    assert (learned.argmin(dim=0) == exact.argmin(dim=0)).all(), "each objective is best at its own corner"


@pytest.mark.parametrize(("m", "expected"), [(2, 5.0), (3, 1.0 + 1.0 - 0.5)])
def test_hypervolume_by_hand(m, expected):
    """Two points, worked out by hand: 2-D 3·1 + 1·2; 3-D union of the boxes 1·1·1 and 1·½·2 overlapping in ½."""
    if m == 2:
        values, reference = torch.tensor([[0.0, 2.0], [2.0, 0.0], [2.5, 2.5]]), torch.tensor([3.0, 3.0])
    else:
        values, reference = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.5, 0.0]]), torch.tensor([2.0, 2.0, 2.0])
    assert hypervolume(values, reference) == pytest.approx(expected)


def train(model: nn.Module, objective: Objective, steps: int, batch_size: int, data=None) -> ParetoTrainer:
    config = TrainerConfig(
        steps=steps,
        batch_size=batch_size,
        preferences_per_step=4,
        learning_rate=5e-3,
        warmup_ratio=0.05,
        log_every=steps,
        progress=False,
    )
    trainer = ParetoTrainer(model, objective, Linear(), train_data=data, config=config)
    trainer.train()
    return trainer


# KL-regularised rewards over an enumerable response set.


def kl_optimum(reference: torch.Tensor, rewards: torch.Tensor, beta: float, preference: torch.Tensor) -> torch.Tensor:
    """log π_λ for log π_ref (P, V) and rewards (P, V, m)."""
    return torch.log_softmax(reference + rewards @ preference / beta, dim=-1)


def kl_losses(policy: torch.Tensor, reference: torch.Tensor, rewards: torch.Tensor, beta: float) -> torch.Tensor:
    """−J_i = −(E r_i − β KL(π‖π_ref)), the mean over prompts: log-probabilities (…, P, V) to (…, m)."""
    probabilities = policy.exp()
    kl = (probabilities * (policy - reference)).sum(-1, keepdim=True)
    return -(torch.einsum("...pv,pvm->...pm", probabilities, rewards) - beta * kl).mean(-2)


class ExactRewards(Objective):
    """Exact expected rewards and KL of one-token responses to a few prompts."""

    def __init__(self, prompts: torch.Tensor, reference: torch.Tensor, rewards: torch.Tensor, beta: float) -> None:
        self.names = tuple("abc"[: rewards.shape[-1]])
        self.prompts, self.reference, self.rewards, self.beta = prompts, reference, rewards, beta

    def losses(self, model, batch, preferences):
        groups, prompts = len(preferences), len(self.prompts)
        logits = model(
            self.prompts.repeat(groups, 1), preferences=preferences.repeat_interleave(prompts, dim=0)
        ).logits[:, -1]
        policy = torch.log_softmax(logits, -1).reshape(groups, prompts, -1)
        return kl_losses(policy, self.reference, self.rewards, self.beta)


def reward_problem(base: nn.Module, m: int) -> ExactRewards:
    generator = torch.Generator().manual_seed(m)
    prompts = torch.randint(3, VOCABULARY, (3, 4), generator=generator)
    rewards = torch.rand(3, VOCABULARY, m, generator=generator)
    with torch.no_grad():
        reference = torch.log_softmax(base(prompts).logits[:, -1], -1)
    return ExactRewards(prompts, reference, rewards, beta=0.2)


@pytest.mark.parametrize("m", [2, 3])
def test_the_closed_form_is_optimal(m, make_llama):
    """Guards the truth itself: the scalarized loss has gradient 0 there, and no perturbation is better."""
    problem = reward_problem(make_llama(vocab_size=VOCABULARY), m)
    generator = torch.Generator().manual_seed(0)
    for preference in simplex_lattice(m, 10).float():
        best = kl_optimum(problem.reference, problem.rewards, problem.beta, preference)
        logits = best.clone().requires_grad_()
        loss = preference @ kl_losses(torch.log_softmax(logits, -1), problem.reference, problem.rewards, problem.beta)
        assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-6
        for _ in range(20):
            other = torch.log_softmax(best + 0.3 * torch.randn(best.shape, generator=generator), -1)
            worse = preference @ kl_losses(other, problem.reference, problem.rewards, problem.beta)
            assert worse > loss


@pytest.mark.parametrize("m", [2, 3])
def test_mods_identity(m, make_llama):
    """π_λ ∝ Π π_{e_i}^{λ_i}: decoding with the corners' policies mixed in log space is the optimum for λ."""
    problem = reward_problem(make_llama(vocab_size=VOCABULARY), m)
    corners = torch.stack(
        [kl_optimum(problem.reference, problem.rewards, problem.beta, corner) for corner in torch.eye(m)]
    )
    for preference in simplex_lattice(m, 15).float():
        mixed = torch.log_softmax(torch.einsum("i,ipv->pv", preference, corners), -1)
        expected = kl_optimum(problem.reference, problem.rewards, problem.beta, preference)
        torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("m", "points", "steps"), [(2, 11, 250), (3, 28, 250)])
def test_recovers_the_front_of_kl_regularised_rewards(m, points, steps, make_llama):
    base = make_llama(vocab_size=VOCABULARY)
    problem = reward_problem(base, m)
    model = PreferenceModel(base, SVDLoRAConfig(objectives=problem.names, rank=8, preference_rank=4))
    preferences = simplex_lattice(m, points).float()
    exact = torch.stack(
        [
            kl_losses(
                kl_optimum(problem.reference, problem.rewards, problem.beta, preference),
                problem.reference,
                problem.rewards,
                problem.beta,
            )
            for preference in preferences
        ]
    )
    front = train(model, problem, steps, batch_size=4).front(preferences)
    assert_recovers(torch.as_tensor(front.values).float(), exact, preferences)


# DPO with noisy labels.

# P(dimension i prefers y_0) for each prompt, in quarters so that four rows hold the exact shares; no share is 0 or 1,
# where the optimum would lie at infinity. Dimensions disagree on most prompts.
SHARES = torch.tensor([[3, 1], [1, 3], [3, 2], [2, 1], [1, 1], [2, 3]]) / 4
BETA = 0.5


def noisy_pairs() -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for shares in SHARES:
        tokens = torch.randint(3, VOCABULARY, (8,), generator=generator).tolist()
        pair = {"prompt_ids": tokens[:4], "response_0_ids": tokens[4:6], "response_1_ids": tokens[6:]}
        counts = (4 * shares).long().tolist()
        rows += [pair | {"labels": [int(copy >= count) for count in counts]} for copy in range(4)]
    return rows


def dpo_front(preferences: torch.Tensor) -> torch.Tensor:
    """f_i(λ) = mean over prompts of −(p_i log q + (1 − p_i) log(1 − q)), q = Σ λ_j p_j."""
    q = (preferences @ SHARES.T)[:, :, None]
    return -(SHARES * q.log() + (1 - SHARES) * (1 - q).log()).mean(dim=1)


def test_labels_come_in_the_exact_shares():
    labels = torch.tensor([row["labels"] for row in noisy_pairs()], dtype=torch.float32)
    torch.testing.assert_close(1 - labels.reshape(6, 4, 2).mean(dim=1), SHARES)


def test_recovers_the_front_of_dpo_with_noisy_labels(make_llama):
    """24 rows in groups of 24: each group is one pass over the data, so its mean losses are exact."""
    base = make_llama(vocab_size=VOCABULARY)
    model = PreferenceModel(base, SVDLoRAConfig(objectives=("a", "b"), rank=8, preference_rank=4))
    dpo = DPO(("a", "b"), beta=BETA)
    rows = dpo.precompute(model, noisy_pairs(), batch_size=24)
    preferences = simplex_lattice(2, 11).float()
    trainer = train(model, dpo, 200, batch_size=4 * 24, data=rows)
    learned = torch.as_tensor(trainer.front(preferences).values).float()
    exact = dpo_front(preferences)
    assert_recovers(learned, exact, preferences)

    # The optimum of each pair, not only of the means: σ(β d) = Σ λ_i p_i.
    pairs = rows[::4]
    middle = torch.tensor([0.5, 0.5])
    with torch.no_grad():
        margins = dpo.margins(model.eval(), dpo.collate(pairs), middle.expand(6, 2))
    torch.testing.assert_close(torch.sigmoid(BETA * margins), SHARES @ middle, atol=0.05, rtol=0)
