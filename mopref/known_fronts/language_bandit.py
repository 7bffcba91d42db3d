"""LanguageBandit: a language model's policy over one-token responses, so small that its Pareto front is known exactly.

A bandit is an :class:`~mopref.Objective` without data: its losses are sums over all responses, so training has no
sampling noise, and what a model misses of the exact front is its own doing. What is minimised is told by the classes
:class:`~mopref.known_fronts.RewardBandit` and :class:`~mopref.known_fronts.LabelBandit`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mopref._arrays import real_array
from mopref.argument_kinds import checks_arguments
from mopref.indicators import hypervolume
from mopref.known_fronts.minimax import minimax_mixtures
from mopref.known_fronts.oracle import Optimum
from mopref.objective import Objective
from mopref.objective_names import checked_names, numbered_names
from mopref.preferences import validate_preferences
from mopref.scalarizer import Scalarizer
from mopref.scalarizers import Linear, Tchebycheff
from mopref.setting_types import check_numbers

__all__ = ["LanguageBandit", "random_prompts", "token_rows", "vocabulary_of"]


class LanguageBandit(Objective):
    """m convex losses of a policy π(y|x) over one-token responses to a few prompts.

    A new one implements :meth:`losses_of` and :meth:`linear_optima`; everything else is made of them here.

    Attributes:
        prompts: ``(P, T)`` token ids, each row another.
        reference: log π_ref of every token after every prompt, ``(P, V)``, float64.
        beta: strength of the pull to the reference.
    """

    def __init__(self, base: nn.Module, prompts: Any, names: Sequence[str] | int, beta: float) -> None:
        self.names = numbered_names(names) if isinstance(names, int) else checked_names(names)
        self.prompts, self.beta = _checked_prompts(prompts, vocabulary_of(base)), beta
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta is {beta}: it must be positive and finite.")
        with torch.no_grad(), getattr(base, "disabled", nullcontext)():
            self.reference = _log_probabilities(base(self.prompts).logits)

    def options(self) -> dict[str, Any]:
        """The sizes; the tables themselves are long."""
        prompts, vocabulary = self.reference.shape
        return {"names": self.names, "beta": self.beta, "prompts": prompts, "vocabulary": vocabulary}

    @abstractmethod
    def losses_of(self, policies: Tensor) -> Tensor:
        """The exact losses of log-probabilities: ``(…, P, V)`` to ``(…, m)``, differentiable."""

    @abstractmethod
    def linear_optima(self, weights: Tensor) -> Tensor:
        """The losses at the minimum of Σ_i w_i f_i over all policies, in closed form: ``(N, m)`` to ``(N, m)``."""

    @checks_arguments
    def log_probabilities(self, model: nn.Module, preferences: Any = None) -> Tensor:
        """log π of every token after every prompt, under each preference: ``(N, P, V)``, float64, differentiable.

        Args:
            model: called as ``model(input_ids, preferences=(N·P, m))``, or without preferences.
            preferences: ``(N, m)``; ``None`` for a model that takes none, which gives one policy ``(1, P, V)``.
        """
        prompts = self.prompts.to(next(model.parameters()).device)
        if preferences is None:
            return _log_probabilities(model(prompts).logits).unsqueeze(0)
        rows = self.preference_rows(preferences)
        inputs = prompts.repeat(len(rows), 1)
        logits = model(inputs, preferences=rows.repeat_interleave(len(prompts), dim=0)).logits
        return _log_probabilities(logits).view(len(rows), len(prompts), -1)

    def losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """The exact losses of a model under each preference, ``(G, m)`` to ``(G, m)``; there is no batch."""
        return self.losses_of(self.log_probabilities(model, preferences))

    @checks_arguments
    def optimum(self, preferences: Any, scalarizer: Scalarizer | None = None) -> Optimum:
        """min_π g(f(π); λ) over all policies, for each preference: the losses there and their scalarized value.

        Args:
            preferences: λ, ``(N, m)``.
            scalarizer: ``Linear``, as by default, in closed form; or ``Tchebycheff`` with a fixed ideal point, by the
                dual problem, to about 1e-5.

        Raises:
            ValueError: another scalarizer, of whose optimum no closed form is known here.
        """
        scalarizer = Linear() if scalarizer is None else scalarizer
        weights = validate_preferences(preferences, self.names).detach().cpu()
        mixtures = weights
        if type(scalarizer) is Tchebycheff and scalarizer.ideal_point is not None:
            mixtures = minimax_mixtures(self.linear_optima, weights, scalarizer.ideal_point.double())
        elif type(scalarizer) is not Linear:
            raise ValueError(
                f"scalarizer is {scalarizer!r}, and optima are known here under Linear() and under Tchebycheff(ideal="
                "bandit.ideal_point): give one of them."
            )
        values = self.linear_optima(mixtures)
        return Optimum(values, scalarizer(values, weights))

    @property
    def corners(self) -> Tensor:
        """The exact losses at the corners: row i minimises f_i alone, ``(m, m)``."""
        return self.linear_optima(torch.eye(self.num_objectives, dtype=torch.float64))

    @property
    def ideal_point(self) -> Tensor:
        """The smallest value of each loss, ``(m,)``, below the exact one by rounding: no policy is better."""
        best = self.corners.diagonal()
        return best - 1e-6 * best.abs().clamp(min=1.0)

    @property
    def corner_spread(self) -> float:
        """The range of each loss over the exact corners, the mean over the m losses: what regret is compared with."""
        corners = self.corners
        return float((corners.amax(dim=0) - corners.amin(dim=0)).mean())

    @property
    def reference_point(self) -> Tensor:
        """Of hypervolumes: the worst corner's value of each loss plus a tenth of its range, ``(m,)``."""
        worst, best = self.corners.amax(dim=0), self.corners.amin(dim=0)
        return worst + 0.1 * (worst - best)

    @checks_arguments
    def regret(self, values: Tensor, preferences: Any, scalarizer: Scalarizer | None = None) -> Tensor:
        """g(f; λ) − min_π g(f(π); λ) of losses ``(N, m)`` reached under preferences ``(N, m)``: ``(N,)``, ≥ 0.

        Raises:
            ValueError: as :meth:`optimum`.
        """
        scalarizer = Linear() if scalarizer is None else scalarizer
        weights = validate_preferences(preferences, self.names).detach().cpu()
        return scalarizer(values.detach().cpu().double(), weights) - self.optimum(weights, scalarizer).scalarized

    @checks_arguments
    def hypervolume_ratio(self, values: Tensor, preferences: Any, scalarizer: Scalarizer | None = None) -> float:
        """Hypervolume of losses ``(N, m)`` over that of the exact optima at the same preferences ``(N, m)``.

        Both from :attr:`reference_point`. A little above 1 is possible: points that miss their own optimum may lie
        where the exact ones at these preferences leave a gap.

        Raises:
            ValueError: as :meth:`optimum`, or exact optima without a volume, which a β of any use does not make.
        """
        exact = self.optimum(preferences, scalarizer).values
        reference = self.reference_point
        whole = hypervolume(exact, reference)
        if whole == 0:
            raise ValueError(f"the exact optima have no hypervolume, beta being {self.beta:g}: give a smaller β.")
        return hypervolume(values.detach().cpu().double(), reference) / whole


def random_prompts(base: nn.Module, count: int, generator: torch.Generator, length: int = 4) -> Tensor:
    """Different prompts of random tokens, none of the first three, which are special: ``(P, T)``.

    Raises:
        ValueError: there are not so many.
    """
    vocabulary = vocabulary_of(base)
    if count > (most := max(0, vocabulary - 3) ** length):
        raise ValueError(f"prompts is {count}: of {vocabulary} tokens there are {most} different ones at most.")
    check_numbers({"prompts": count, "tokens": vocabulary})
    prompts: dict[tuple[int, ...], None] = {}
    while len(prompts) < count:
        prompts[tuple(torch.randint(3, vocabulary, (length,), generator=generator).tolist())] = None
    return torch.tensor(list(prompts))


def vocabulary_of(base: nn.Module) -> int:
    """V, the number of tokens of a language model.

    Raises:
        TypeError: a model that says none.
    """
    count = getattr(getattr(base, "config", None), "vocab_size", None)
    if not isinstance(count, int):
        raise TypeError(f"base is a {type(base).__name__} without config.vocab_size: give a causal language model.")
    return count


def _log_probabilities(logits: Tensor) -> Tensor:
    """Of the token after the last one, float64."""
    return logits[:, -1].double().log_softmax(dim=-1)


def token_rows(tokens: Any, vocabulary: int, name: str) -> Tensor:
    """Rows of token ids as a tensor ``(P, T)``.

    Raises:
        ValueError: what is no such table of whole numbers, or one of them that is no token.
    """
    table = real_array(tokens, name)
    if table.ndim != 2 or 0 in table.shape or not (table == table.round()).all():
        raise ValueError(f"{name} have shape {table.shape}: give rows of token ids, all of one length.")
    if table.min() < 0 or table.max() >= vocabulary:
        raise ValueError(f"{name} hold {table.min():g} to {table.max():g}: tokens are 0 to {vocabulary - 1}.")
    return torch.from_numpy(table).long()


def _checked_prompts(prompts: Any, vocabulary: int) -> Tensor:
    rows = token_rows(prompts, vocabulary, "prompts")
    if len(rows.unique(dim=0)) < len(rows):
        raise ValueError("prompts hold the same row twice: give different rows of token ids.")
    return rows
