"""A tiny Llama with SVD-LoRA trained by KTO ranks every answer right and reaches the front of tabular policies.

The problem is a bandit: a few prompts, six one-token answers each, every answer good or bad on each objective, without
noise. The truth is the same loss minimised over free logits, a table for each preference: KTO's optimum has no closed
form, since its losses are bounded and an answer's probability is not free of the others'. Both fronts are compared by
hypervolume on the same lattice of λ, from the losses at the start, where the policy is the reference: the mean of ½ w
over the answers. Only points that are better than the start on every objective count there.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mopref import ParetoTrainer, PreferenceModel, Scalarizer, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.indicators import hypervolume
from mopref.llm.data import with_mismatches
from mopref.objectives import KTO
from mopref.scalarizers import Linear, Tchebycheff

VOCABULARY = 24
BETA = 1.0
# Unequal, so that a disputed answer is worth raising from λ_i = ⅓ on, and the front has more than two pieces.
GOOD, BAD = 2.0, 1.0
# Of six answers to a prompt, by objective: some are good on all, some bad on all, some in dispute.
LABELS = {
    2: [[1, 0], [0, 1], [1, 1], [0, 0], [1, 1], [0, 0]],
    3: [[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]],
}


def bandit(m: int) -> list[dict]:
    generator = torch.Generator().manual_seed(m)
    rows = []
    for _ in range(4):
        prompt = torch.randint(3, VOCABULARY, (4,), generator=generator).tolist()
        answers = (3 + torch.randperm(VOCABULARY - 3, generator=generator)[:6]).tolist()
        rows += [
            {"prompt_ids": prompt, "response_ids": [answer], "labels": labels}
            for answer, labels in zip(answers, LABELS[m], strict=True)
        ]
    return with_mismatches(rows, seed=1)


def linear(losses: Tensor, preferences: Tensor) -> Tensor:
    return (preferences * losses).sum(-1)


def weighted_maximum(losses: Tensor, preferences: Tensor) -> Tensor:
    return (preferences * losses).max(-1).values


def tabular_front(
    base: nn.Module,
    rows: list[dict],
    preferences: Tensor,
    scalarize: Callable[[Tensor, Tensor], Tensor],
    start: float = 0,
) -> Tensor:
    """KTO's losses of free logits of each prompt at each preference, after a long run of Adam: ``(N, m)``, float64.

    ``start`` is how far from the reference the logits begin, at random.
    """
    prompts = sorted({tuple(row["prompt_ids"]) for row in rows})
    places = [prompts.index(tuple(row["prompt_ids"])) for row in rows]
    answers, mismatched = ([row[name][0] for row in rows] for name in ("response_ids", "mismatched_response_ids"))
    good = torch.tensor([row["labels"] for row in rows]) == 1
    with torch.no_grad():
        reference = torch.log_softmax(base(torch.tensor(prompts)).logits[:, -1].double(), -1)
    logits = reference.repeat(len(preferences), 1, 1)
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0), dtype=logits.dtype)
    logits = (logits + start * noise).requires_grad_()

    def losses() -> Tensor:
        ratios = torch.log_softmax(logits, -1) - reference
        z = ratios[:, places, mismatched].detach().mean(dim=1).clamp(min=0)
        gains = BETA * (ratios[:, places, answers] - z[:, None]).unsqueeze(-1)
        values = torch.where(good, GOOD * (1 - torch.sigmoid(gains)), BAD * (1 - torch.sigmoid(-gains)))
        return values.mean(dim=1)

    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(1200):
        optimizer.zero_grad()
        scalarize(losses(), preferences).sum().backward()
        optimizer.step()
    return losses().detach()


def start_losses(rows: list[dict]) -> Tensor:
    """½ w on the mean: h = 0 and z = 0."""
    good = torch.tensor([row["labels"] for row in rows], dtype=torch.float64).mean(dim=0)
    return (GOOD * good + BAD * (1 - good)) / 2


def train(
    base: nn.Module, rows: list[dict], scalarizer: Scalarizer, steps: int
) -> tuple[ParetoTrainer, KTO, list[dict]]:
    """Each of four groups a step is one pass over the rows, so that its mean losses are exact."""
    names = tuple("abc"[: len(rows[0]["labels"])])
    model = PreferenceModel(base, SVDLoRAConfig(objectives=names, rank=8, preference_rank=4))
    kto = KTO(names, BETA, GOOD, BAD)
    rows = kto.precompute(model, rows, batch_size=len(rows))
    config = TrainerConfig(
        steps=steps,
        batch_size=4 * len(rows),
        preferences_per_step=4,
        learning_rate=1e-2,
        log_every=steps,
        progress=False,
        cpu=True,
    )
    trainer = ParetoTrainer(model, kto, scalarizer, train_data=rows, config=config)
    trainer.train()
    return trainer, kto, rows


def assert_every_answer_is_ranked_right(trainer: ParetoTrainer, kto: KTO, rows: list[dict]) -> None:
    """At e_i every answer that is good on i has a larger log-ratio than every bad one, of any prompt."""
    ratios = kto.all_log_ratios(trainer.unwrapped_model.eval(), rows, torch.eye(kto.num_objectives), len(rows))
    labels = kto.labels(rows)
    for objective, of_corner in enumerate(ratios[..., 0]):
        good, bad = (of_corner[labels[:, objective] == label] for label in (1, 0))
        assert good.min() > bad.max() + 1, f"{kto.names[objective]}: {good.min():.2f} against {bad.max():.2f}"


@pytest.fixture(scope="module")
def make_base(make_llama):
    """One block is enough; large weights, so that a norm before the head does not bound the log-ratios early."""

    def make() -> nn.Module:
        return make_llama(vocab_size=VOCABULARY, num_hidden_layers=1, std=0.3)

    return make


CASES = [
    pytest.param(2, 11, Linear(), linear, 120, id="linear"),
    pytest.param(2, 11, Tchebycheff(ideal=[0.0, 0.0]), weighted_maximum, 200, id="tchebycheff"),
    # Half a minute.
    pytest.param(3, 15, Linear(), linear, 500, id="linear, three objectives", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("m", "points", "scalarizer", "scalarize", "steps"), CASES)
def test_reaches_the_front_of_tabular_policies(m, points, scalarizer, scalarize, steps, make_base):
    base, rows = make_base(), bandit(m)
    preferences = simplex_lattice(m, points).double()
    exact = tabular_front(base, rows, preferences, scalarize)
    trainer, kto, complete = train(base, rows, scalarizer, steps)
    learned = torch.as_tensor(trainer.front(preferences).values).double()

    reference = start_losses(rows)
    ratio = hypervolume(learned.numpy(), reference.numpy()) / hypervolume(exact.numpy(), reference.numpy())
    assert ratio >= 0.98, f"hypervolume ratio {ratio:.4f} from {reference.tolist()}"
    regret = scalarize(learned, preferences) - scalarize(exact, preferences)
    assert regret.min() >= -2e-3, f"better than the tabular optimum by {-regret.min():.2e}, which would be a wrong loss"
    assert regret.mean() <= 0.03
    corners = learned[[int((preferences[:, i] == 1).nonzero()) for i in range(m)]].diagonal()
    assert (corners <= learned.min(dim=0).values + 5e-3).all(), "each objective is best at its own corner"
    assert_every_answer_is_ranked_right(trainer, kto, complete)


def test_the_start_is_the_reference_point(make_base):
    rows = bandit(2)
    model = PreferenceModel(make_base(), SVDLoRAConfig(objectives=("a", "b")))
    losses = KTO(("a", "b"), BETA, GOOD, BAD).mean_losses(model, rows, torch.eye(2), 8)
    torch.testing.assert_close(losses, start_losses(rows).expand(2, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scalarize", [linear, weighted_maximum])
def test_the_tabular_front_is_optimal(scalarize, make_base):
    """Guards the truth itself: from other logits no preference gets anywhere better."""
    base, rows, preferences = make_base(), bandit(2), simplex_lattice(2, 11).double()
    values = scalarize(tabular_front(base, rows, preferences, scalarize), preferences)
    other = scalarize(tabular_front(base, rows, preferences, scalarize, start=2.0), preferences)
    assert (other - values).min() > -5e-3
