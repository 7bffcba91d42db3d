"""A tiny Llama with SVD-LoRA learns the mixtures of three styles that are known exactly.

Dimension i's data are one-token responses, drawn from p_i(y|x). With linear scalarization Σ_i λ_i CE(p_i, π) has its
minimum where π is the mixture Σ_i λ_i p_i: there Σ_i λ_i CE(p_i, π) = CE(Σ_i λ_i p_i, π) is an entropy.
"""

import pytest
import torch

from mopref import DirichletSampler, ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.objectives import SFT
from mopref.scalarizers import Linear

VOCABULARY = 24
NAMES = ("a", "b", "c")
PROMPTS = [[5, 9, 3, 20], [17, 4, 8, 11]]
# For each prompt, response token: how many of a dimension's 10 rows have it.
COUNTS = [
    {3: (6, 1, 1), 9: (1, 6, 1), 14: (2, 1, 2), 21: (1, 2, 6)},
    {4: (5, 1, 1), 9: (1, 2, 6), 12: (3, 6, 1), 18: (1, 1, 2)},
]
CORNERS = torch.eye(3)
PREFERENCES = torch.cat(
    [CORNERS, torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1], [0.5, 0.0, 0.5], [0.1, 0.3, 0.6]])]
)


def distributions() -> torch.Tensor:
    """p_i(y|x), shape (m, prompts, vocabulary)."""
    shares = torch.zeros(3, len(PROMPTS), VOCABULARY)
    for prompt, counts in enumerate(COUNTS):
        for token, numbers in counts.items():
            shares[:, prompt, token] = torch.tensor(numbers) / 10
    return shares


def data_rows() -> list[dict]:
    """One pass of the data: copy j of a response is data of every dimension that has more than j rows of it."""
    return [
        {"prompt_ids": PROMPTS[prompt], "response_ids": [token], "dimensions": [number > copy for number in numbers]}
        for prompt, counts in enumerate(COUNTS)
        for token, numbers in counts.items()
        for copy in range(max(numbers))
    ]


def mixtures(preferences: torch.Tensor) -> torch.Tensor:
    """Σ_i λ_i p_i, shape (N, prompts, vocabulary)."""
    return torch.einsum("nm,mpv->npv", preferences, distributions())


def cross_entropies(policies: torch.Tensor) -> torch.Tensor:
    """CE(p_i, π), the mean over prompts: log-probabilities (N, prompts, vocabulary) to (N, m)."""
    shares = distributions()
    products = torch.where(shares > 0, shares * policies[:, None].clamp(min=-1e4), torch.zeros(()))
    return -products.sum(dim=-1).mean(dim=-1)


def test_the_data_have_the_exact_shares():
    rows = data_rows()
    counts = torch.zeros(3, len(PROMPTS), VOCABULARY)
    for row in rows:
        counts[:, PROMPTS.index(row["prompt_ids"]), row["response_ids"][0]] += torch.tensor(row["dimensions"])
    torch.testing.assert_close(counts / 10, distributions())
    torch.testing.assert_close(distributions().sum(dim=-1), torch.ones(3, len(PROMPTS)))
    between = 0.5 * (distributions()[:, None] - distributions()).abs().sum(-1).mean(-1)
    assert between[~torch.eye(3, dtype=torch.bool)].min() > 0.4, "styles nearly alike would test nothing"


def test_the_mixture_is_optimal():
    """Guards the truth itself: the scalarized loss has gradient 0 there, and no perturbation is better."""
    generator = torch.Generator().manual_seed(0)
    for preference in PREFERENCES:
        best = mixtures(preference[None])
        logits = best.clamp(min=1e-12).log().requires_grad_()
        loss = preference @ cross_entropies(torch.log_softmax(logits, -1))[0]
        assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-6
        for _ in range(20):
            other = torch.log_softmax(logits.detach() + 0.3 * torch.randn(logits.shape, generator=generator), -1)
            assert preference @ cross_entropies(other)[0] > loss


def check_mixtures(make_llama, seed: int, steps: int) -> None:
    rows = data_rows()
    # The output head is frozen: with smaller weights it could not push 20 of 24 tokens to nearly nothing.
    base = make_llama(vocab_size=VOCABULARY, std=0.25)
    model = PreferenceModel(base, SVDLoRAConfig(objectives=NAMES, rank=8, preference_rank=4, seed=seed))
    config = TrainerConfig(
        steps=steps,
        batch_size=4 * len(rows),  # A group is one pass over the data, so its mean losses are exact.
        preferences_per_step=4,
        learning_rate=2e-2,
        log_every=steps,
        seed=seed,
        progress=False,
    )
    trainer = ParetoTrainer(model, SFT(NAMES), Linear(), DirichletSampler(3, 0.5), train_data=rows, config=config)
    trainer.train()

    exact = mixtures(PREFERENCES)
    model.eval()
    with torch.no_grad():
        logits = model(
            torch.tensor(PROMPTS).repeat(len(PREFERENCES), 1),
            preferences=PREFERENCES.repeat_interleave(len(PROMPTS), dim=0),
        ).logits[:, -1]
    policies = torch.log_softmax(logits, -1).view_as(exact)
    distance = 0.5 * (policies.exp() - exact).abs().sum(-1)
    # On the simplex's edges draws are rarest.
    allowed = torch.where(((PREFERENCES > 0).sum(-1) == 2)[:, None], 0.06, 0.03)
    assert (distance <= allowed).all(), f"total variation by preference and prompt: {distance.tolist()}"

    losses = torch.as_tensor(trainer.front(PREFERENCES).values).float()
    # The objective's own losses are those of these policies on the true distributions.
    torch.testing.assert_close(losses, cross_entropies(policies), atol=1e-4, rtol=1e-4)
    scalarized, optimum = (PREFERENCES * losses).sum(-1), torch.special.entr(exact).sum(-1).mean(-1)
    assert (scalarized - optimum).min() >= -1e-4, "better than the exact optimum: a wrong loss"
    assert (scalarized - optimum).max() <= 0.02
    # Gibbs: no policy is better on p_i than p_i's own entropy; the corner comes close to it.
    entropies = torch.special.entr(distributions()).sum(-1).mean(-1)
    assert (losses >= entropies - 1e-4).all()
    torch.testing.assert_close(losses[:3].diagonal(), entropies, atol=0.02, rtol=0)


def test_every_preference_has_its_mixture(make_llama):
    check_mixtures(make_llama, seed=0, steps=200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_preference_has_its_mixture_whatever_the_seed(seed, make_llama):
    check_mixtures(make_llama, seed, steps=500)
