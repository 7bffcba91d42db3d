"""Problems with known formulas, searches for their fronts, and models of decision variables."""

import inspect
from typing import Any

import torch
from torch import Tensor

import mopref
from benchmarks.bad_input.target import Target, options_of
from benchmarks.bad_input.targets.checks import finite
from mopref import known_fronts, objectives, problem
from mopref.objective import Losses
from mopref.scalarizers import Linear

__all__ = ["TARGETS"]

_GROUP = "problems, known fronts"


class _Mine(problem.Problem):
    def evaluate(self, x: Tensor) -> Tensor:
        return torch.stack([(x**2).sum(dim=-1), ((x - 1) ** 2).sum(dim=-1)], dim=-1)


def _own(**options: Any) -> Any:
    made = _Mine(**options)
    repr(made)
    model = mopref.ParetoSetModel.for_problem(made, hidden=(4,))
    return made.losses(model, None, torch.tensor([[0.5, 0.5]]))


def _evaluated(kind: Any) -> Any:
    def call(x: Any, num_points: Any, **options: Any) -> Any:
        made = kind(**options)
        repr(made)
        for name in ("pareto_front", "pareto_set"):
            try:
                getattr(made, name)(num_points)
            except NotImplementedError:
                continue
        return made.evaluate(x)

    return call


def _right(kind: Any) -> dict[str, Any]:
    own = {"centers": torch.eye(2), "matrices": None} if kind is objectives.Quadratic else {}
    made = kind(**own)
    lower, upper = made.bounds
    return {**options_of(kind, **own), "x": ((lower + upper) / 2).expand(3, -1).clone(), "num_points": 4}


_KINDS = [
    value
    for name in objectives.__all__
    if isinstance(value := getattr(objectives, name), type)
    and issubclass(value, problem.Problem)
    and not inspect.isabstract(value)
]


def _losses(kind: Any) -> Any:
    def call(model: Any, preferences: Any) -> Any:
        losses = kind().losses(model, None, preferences)
        return losses.values if isinstance(losses, Losses) else losses

    return call


def _of_bandit(kind: Any) -> Any:
    def call(values: Any, preferences: Any, scalarizer: Any, **options: Any) -> Any:
        made = kind(known_fronts.tiny_llama(vocabulary=6, hidden=8), **options)
        repr(made)
        made.hypervolume_ratio(values, preferences, scalarizer)
        return made.regret(values, preferences, scalarizer)

    return call


def _right_of_bandit(kind: Any) -> dict[str, Any]:
    labels = kind is known_fronts.LabelBandit
    own = {"shares": torch.rand(2, 2), "pairs": [[3, 4], [4, 5]]} if labels else {"rewards": torch.rand(2, 6, 2)}
    weights = [0.25, 0.25, 0.5] if kind is known_fronts.ConeBandit else [0.5, 0.5]
    return {
        "prompts": [[3, 4], [4, 5]],
        "beta": 0.5,
        "names": ["a", "b"],
        **own,
        "values": torch.rand(1, len(weights)),
        "preferences": [weights],
        "scalarizer": Linear(),
    }


_BANDITS = {
    known_fronts.RewardBandit: "num_objectives",
    known_fronts.LabelBandit: "num_objectives",
    known_fronts.ConeBandit: "num_rewards",
}

TARGETS = [
    *(
        Target(
            f"mopref.known_fronts.{kind.__name__}",
            _GROUP,
            _of_bandit(kind),
            lambda kind=kind: _right_of_bandit(kind),
            covers=("mopref.known_fronts.LanguageBandit",),
            weight=0.5,
        )
        for kind in _BANDITS
    ),
    *(
        Target(
            f"mopref.known_fronts.{kind.__name__}",
            _GROUP,
            kind.random,
            lambda count=count: {
                "base": known_fronts.tiny_llama(vocabulary=6, hidden=8),
                count: 2,
                "prompts": 2,
                "beta": 0.5,
                "seed": 0,
            },
            weight=0.5,
        )
        for kind, count in _BANDITS.items()
    ),
    Target(
        "mopref.known_fronts.tiny_llama",
        _GROUP,
        known_fronts.tiny_llama,
        lambda: {"vocabulary": 6, "layers": 1, "hidden": 8, "seed": 0},
        weight=0.5,
    ),
    Target(
        "mopref.problem.Problem",
        _GROUP,
        _own,
        lambda: {"num_variables": 2, "num_objectives": 2, "bounds": ([0.0, 0.0], [1.0, 2.0]), "names": ["a", "b"]},
        covers=("mopref.Problem", "mopref.objectives.Problem"),
        weight=3,
    ),
    *(
        Target(
            f"mopref.objectives.{kind.__name__}",
            _GROUP,
            _evaluated(kind),
            lambda kind=kind: _right(kind),
            weight=0.7,
        )
        for kind in _KINDS
    ),
    Target(
        "mopref.objectives.ZDT1",
        _GROUP,
        _losses(objectives.ZDT1),
        lambda: {"model": mopref.ParetoSetModel(2, 30, hidden=(4,)), "preferences": torch.tensor([[0.5, 0.5]])},
    ),
    Target(
        "mopref.known_fronts.scalarizer_optimum",
        _GROUP,
        known_fronts.scalarizer_optimum,
        lambda: {
            "problem": objectives.VLMOP2(num_variables=2),
            "scalarizer": Linear(),
            "preferences": [[0.5, 0.5]],
            "num_points": 20,
            "seed": 0,
        },
        covers=("mopref.known_fronts.Optimum",),
        weight=0.5,
    ),
    Target(
        "mopref.known_fronts.global_search",
        _GROUP,
        known_fronts.global_search,
        lambda: {
            "problem": objectives.VLMOP2(num_variables=2),
            "scalarizer": Linear(),
            "preferences": [[0.0, 1.0], [0.3, 0.7], [0.7, 0.3], [1.0, 0.0]],
            "generations": 2,
            "seed": 0,
        },
        covers=("mopref.known_fronts.SearchResult",),
        weight=0.5,
    ),
    Target(
        "mopref.known_fronts.warm_start",
        _GROUP,
        known_fronts.warm_start,
        lambda: {
            "model": mopref.ParetoSetModel(2, 2, hidden=(4,)),
            "problem": objectives.VLMOP2(num_variables=2),
            "scalarizer": Linear(),
            "num_preferences": 4,
            "generations": 2,
            "fit_steps": 2,
            "learning_rate": 0.01,
            "seed": 0,
        },
        weight=0.5,
    ),
    Target(
        "mopref.front.even_preferences",
        _GROUP,
        mopref.even_preferences,
        lambda: {
            "evaluate": lambda preferences: preferences**2,
            "num_objectives": 2,
            "num_points": 3,
            "num_candidates": 9,
            "seed": 0,
        },
        finite,
        covers=("mopref.even_preferences",),
    ),
]
