"""Language-model problems whose responses can all be listed, so that every expectation is an exact sum."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mopref import PreferenceModel
from mopref.indicators import hypervolume
from mopref.known_fronts.reward_bandit import expected_rewards, kl_losses, kl_optimum
from mopref.llm.policy import Sampling
from mopref.llm.rewards import token_reward
from mopref.objectives import RLHF

NAMES = "abc"


def first_losses(rlhf: RLHF, model: nn.Module, rows: Sequence[Any], preferences: Tensor) -> Tensor:
    """−J_i of a fresh rollout as its first optimiser step sees them: ``(G, m)``, differentiable."""
    update = rlhf.updates(model, rlhf.collate(list(rows)), preferences)[0]
    return rlhf.losses(model, update.batch, update.preferences)


def list_responses(vocabulary: int, sampling: Sampling) -> list[tuple[int, ...]]:
    """Every response that can be sampled, with the stop token that ends it, if one does."""
    stops = set(sampling.stop_token_ids)
    tokens = range(vocabulary)
    ordinary = [token for token in tokens if token not in stops]
    responses = []
    for length in range(1, sampling.max_new_tokens + 1):
        last = length == sampling.max_new_tokens
        # A stop token at place `length` has length − 1 tokens before it.
        endings = [t for t in tokens if (t in stops and length > sampling.min_new_tokens) or (t not in stops and last)]
        responses += [(*start, end) for start in itertools.product(ordinary, repeat=length - 1) for end in endings]
    return responses


@dataclass(frozen=True)
class RewardProblem:
    """A few prompts and a reward vector for each of their responses.

    Args:
        prompts: P lists of token ids, all different.
        responses: R responses as :func:`list_responses` gives them.
        rewards: ``(P, R, m)``.
        sampling: how responses are drawn.
        beta: strength of the KL term.
    """

    prompts: list[list[int]]
    responses: list[tuple[int, ...]]
    rewards: Tensor
    sampling: Sampling
    beta: float

    @property
    def m(self) -> int:
        return self.rewards.shape[-1]

    def rows(self, copies: int = 1) -> list[dict[str, Any]]:
        """Each prompt so many times, one after the other: every block of P rows has each prompt once."""
        return [{"prompt_ids": list(prompt)} for _ in range(copies) for prompt in self.prompts]

    def objective(self, algorithm: Any = "rloo", scales: Sequence[float] | None = None, **options: Any) -> RLHF:
        """The objective to test; ``scales`` multiply the rewards."""
        shown = shown_to_rewards(self.responses, self.sampling.stop_token_ids)
        table = {
            (tuple(prompt), response): values
            for prompt, of_prompt in zip(self.prompts, self.rewards.tolist(), strict=True)
            for response, values in zip(shown, of_prompt, strict=True)
        }

        def reward(index: int, scale: float):
            @token_reward
            def read(prompt_ids, response_ids):
                pairs = zip(prompt_ids, response_ids, strict=True)
                return [scale * table[tuple(prompt), tuple(response)][index] for prompt, response in pairs]

            return read

        scales = [1.0] * self.m if scales is None else scales
        options = {"beta": self.beta, "sampling": self.sampling, "normalization": None} | options
        rewards = {NAMES[index]: reward(index, scale) for index, scale in enumerate(scales)}
        return RLHF(rewards, algorithm=algorithm, **options)

    def log_probabilities(self, model: PreferenceModel, preference: Tensor | None) -> Tensor:
        """log π of every response to every prompt at λ, or log π_ref without one: ``(P, R)``, differentiable.

        From plain forwards of unpadded prompts. Where the stop token cannot be drawn, the other tokens share its
        probability.
        """
        longest = self.sampling.max_new_tokens
        responses = torch.tensor([[*response, *[0] * (longest - len(response))] for response in self.responses])
        present = torch.arange(longest) < torch.tensor([[len(response)] for response in self.responses])
        of_prompts = []
        for prompt in self.prompts:
            inputs = torch.cat([torch.tensor(prompt).expand(len(responses), -1), responses], dim=1)
            if preference is None:
                with model.disabled(), torch.no_grad():
                    logits = model(inputs, use_cache=False).logits
            else:
                logits = model(inputs, use_cache=False, preferences=preference).logits
            logits = logits[:, len(prompt) - 1 : -1].double() / self.sampling.temperature
            forbidden = torch.zeros(logits.shape[1:], dtype=torch.bool)
            forbidden[: self.sampling.min_new_tokens, list(self.sampling.stop_token_ids)] = True
            tokens = logits.masked_fill(forbidden, -torch.inf).log_softmax(-1)
            tokens = tokens.gather(-1, responses.unsqueeze(-1)).squeeze(-1)
            of_prompts.append(torch.where(present, tokens, torch.zeros_like(tokens)).sum(-1))
        return torch.stack(of_prompts)

    def terms(self, model: PreferenceModel, preference: Tensor) -> tuple[Tensor, Tensor]:
        """E r_i ``(P, m)`` and KL(π_λ‖π_ref) ``(P,)`` of each prompt, exact and differentiable."""
        policy = self.log_probabilities(model, preference)
        reference = self.log_probabilities(model, None)
        return expected_rewards(policy, self.rewards), (policy.exp() * (policy - reference)).sum(-1)

    def losses(self, model: PreferenceModel, preferences: Tensor) -> Tensor:
        """−J_i = −(E r_i − β KL), the mean over prompts: ``(N, m)`` to ``(N, m)``, exact and differentiable."""
        policies = torch.stack([self.log_probabilities(model, preference) for preference in preferences])
        return losses_of_policies(self, policies, self.log_probabilities(model, None))


def shown_to_rewards(responses: Sequence[Sequence[int]], stop_token_ids: Sequence[int]) -> list[tuple[int, ...]]:
    """Responses without the stop token that ends them."""
    return [tuple(token for token in response if token not in stop_token_ids) for response in responses]


def reward_of_tokens(prompts: int, responses: Sequence[Sequence[int]], m: int, seed: int) -> Tensor:
    """Rewards that add up over the tokens of a response and depend on its length: ``(P, R, m)``.

    Args:
        prompts: P.
        responses: R responses without stop tokens; those that are equal get the same rewards.
        m: the number of objectives.
        seed: seeds the table of rewards.
    """
    generator = torch.Generator().manual_seed(seed)
    longest, vocabulary = max(map(len, responses)), 1 + max(token for response in responses for token in response)
    of_token = torch.randn(prompts, longest, vocabulary, m, generator=generator, dtype=torch.float64)
    of_length = torch.randn(prompts, 1 + longest, m, generator=generator, dtype=torch.float64)
    rewards = [
        sum((of_token[:, place, token] for place, token in enumerate(response)), of_length[:, len(response)])
        for response in responses
    ]
    return torch.stack(rewards, dim=1)


def bandit(m: int = 2, vocabulary: int = 24, beta: float = 0.2, prompts: int = 2, seed: int = 0) -> RewardProblem:
    """One-token responses with rewards drawn from [0, 1]; nothing ends a response."""
    generator = torch.Generator().manual_seed(seed)
    return RewardProblem(
        prompts=torch.randint(3, vocabulary, (prompts, 4), generator=generator).tolist(),
        responses=[(token,) for token in range(vocabulary)],
        rewards=torch.rand(prompts, vocabulary, m, generator=generator, dtype=torch.float64),
        sampling=Sampling(max_new_tokens=1, stop_token_ids=()),
        beta=beta,
    )


def losses_of_policies(problem: RewardProblem, policies: Tensor, reference: Tensor) -> Tensor:
    """−J_i of log-probabilities ``(N, P, R)`` against the reference's ``(P, R)``, the mean over prompts: ``(N, m)``."""
    return kl_losses(policies, reference, problem.rewards, problem.beta)


def optimal_losses(problem: RewardProblem, reference: Tensor, preferences: Tensor) -> Tensor:
    """−J_i of the best policy of all for Σ λ_i J_i, ``(N, m)`` to ``(N, m)``."""
    policies = kl_optimum(reference, problem.rewards, problem.beta, preferences)
    return losses_of_policies(problem, policies, reference)


def hypervolume_ratio(learned: Tensor, exact: Tensor) -> float:
    """Of two sets of losses ``(N, m)``, measured from the exact front's worst values plus a tenth of its range.

    So that every point of the exact front counts, the corners too.
    """
    worst, best = exact.max(0).values, exact.min(0).values
    reference = worst + 0.1 * (worst - best)
    return hypervolume(learned, reference) / hypervolume(exact, reference)


def bump_places(vocabulary: int) -> Tensor:
    """p_v = −0.3 … 1.3, the places of V tokens on a line: shape ``(V,)``, float64."""
    return torch.linspace(-0.3, 1.3, vocabulary, dtype=torch.float64)


def bump_logits(place: Tensor, vocabulary: int, width: float) -> Tensor:
    """−(p_v − x)² / (2 w²), a bump at x over tokens on a line: x ``(…)`` to ``(…, V)``."""
    return -((bump_places(vocabulary).to(place) - place.unsqueeze(-1)) ** 2) / (2 * width**2)


class BumpHead(nn.Module):
    """Logits of a bump of width w over tokens on a line, for one learned number −0.3 < x < 1.3, its place.

    In the place of a language model's output head it leaves the policy one degree of freedom for each prompt, so that
    what is attainable is known by trying every x = 1.6 σ(v·h + b) − 0.3. Before training, x = ½.

    Args:
        hidden: the untrained model's hidden state ``(H,)`` where the response's token is predicted.
        vocabulary: V.
        width: w.
    """

    def __init__(self, hidden: Tensor, vocabulary: int, width: float) -> None:
        super().__init__()
        direction = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
        # Hidden states have the length √H, so that v·h + b spans about ±5 and x nearly all of its range.
        self.register_buffer("direction", 5 * direction / direction.norm() / len(hidden) ** 0.5)
        self.register_buffer("offset", -(hidden * self.direction).sum())
        self.vocabulary, self.width = vocabulary, width

    def forward(self, hidden: Tensor) -> Tensor:
        place = 1.6 * torch.sigmoid((hidden * self.direction).sum(-1) + self.offset) - 0.3
        return bump_logits(place, self.vocabulary, self.width)
