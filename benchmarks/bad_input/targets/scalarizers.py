"""Scalarizers and gradient weightings."""

from typing import Any

import torch

from benchmarks.bad_input.target import Target, keywords, options_of, without
from benchmarks.bad_input.targets.checks import finite, finite_on_simplex, propagating
from mopref import gradients, scalarizers
from mopref.objectives import ZDT1
from mopref.scalarizer import IdealPointScalarizer, Scalarizer

__all__ = ["TARGETS"]

_GROUP = "scalarizers, gradients"
_POINTS = {
    "AchievementScalarizing": {"reference_point": [0.0, 0.0]},
    "AugmentedAchievementScalarizing": {"reference_point": [0.0, 0.0]},
    "Hypervolume": {"reference_point": [4.0, 4.0]},
    "InvertedPBI": {"nadir": [4.0, 4.0]},
    "Normalized": {"scalarizer": scalarizers.Linear(), "ideal": [0.0, 0.0], "nadir": [4.0, 4.0]},
}


def _applied(kind: Any) -> Any:
    def call(losses: Any, preferences: Any, **options: Any) -> Any:
        made = kind(**options)
        repr(made)
        made.observe(torch.tensor([[0.5, 3.0], [2.0, 0.5]]))
        made.load_state_dict(made.state_dict())
        return made(losses, preferences)

    return call


def _observed(kind: Any) -> Any:
    def call(observed: Any, losses: Any) -> Any:
        made = kind()
        made.observe(observed)
        return made(losses, torch.tensor([0.5, 0.5]))

    return call


def _restored(kind: Any) -> Any:
    def call(state: Any) -> Any:
        made = kind()
        made.load_state_dict(state)
        return made(torch.tensor([3.0, 3.0]), torch.tensor([0.5, 0.5]))

    return call


def _state(kind: Any) -> dict[str, Any]:
    made = kind()
    made.observe(torch.tensor([[0.5, 3.0], [2.0, 0.5]]))
    return dict(made.state_dict())


def _right(kind: Any) -> dict[str, Any]:
    more = _POINTS.get(kind.__name__, {})
    if not more and issubclass(kind, IdealPointScalarizer):
        more = {"ideal": [0.0, 0.0]}
    losses = torch.tensor([[1.0, 2.0], [3.0, 0.5]])
    options = options_of(kind.__init__, **more) if "__init__" in dir(kind) and kind is not scalarizers.Linear else {}
    options.pop("self", None)
    return {**options, "losses": losses, "preferences": torch.tensor([[0.25, 0.75], [0.5, 0.5]])}


def _weights(kind: Any) -> Any:
    def call(losses: Any, gramians: Any, preferences: Any, **options: Any) -> Any:
        made = kind(**options)
        repr(made)
        made.observe(torch.tensor([[0.5, 0.3], [0.2, 0.5]]))
        return made(losses, gramians, preferences)

    return call


def _gramians(losses: Any, parameters: Any, groups_at_once: Any) -> Any:
    return gradients.gramians(losses, parameters, groups_at_once)


def _gramian_arguments() -> dict[str, Any]:
    weight = torch.ones(2, requires_grad=True)
    losses = torch.stack([weight.sum() * 2, (weight**2).sum()]).reshape(1, 2)
    return {"losses": losses, "parameters": [weight], "groups_at_once": None}


_KINDS = [
    value
    for name, value in vars(scalarizers).items()
    if not name.startswith("_") and isinstance(value, type) and issubclass(value, Scalarizer)
]
_TRACKED = [kind for kind in _KINDS if kind.__name__ in ("Tchebycheff", "InvertedPBI", "PBI", "PNorm")]

TARGETS = [
    *(
        Target(
            f"mopref.scalarizers.{kind.__name__}",
            _GROUP,
            _applied(kind),
            lambda kind=kind: _right(kind),
            finite_on_simplex,
            covers=("mopref.scalarizer.Scalarizer", "mopref.Scalarizer", "mopref.scalarizer.IdealPointScalarizer"),
            weight=2,
        )
        for kind in _KINDS
    ),
    *(
        Target(
            f"mopref.scalarizers.{kind.__name__}",
            _GROUP,
            _observed(kind),
            lambda: {"observed": torch.tensor([[1.0, 2.0], [3.0, 0.5]]), "losses": torch.tensor([3.5, 3.0])},
            propagating,
        )
        for kind in _TRACKED
    ),
    *(
        Target(
            f"mopref.scalarizers.{kind.__name__}",
            _GROUP,
            _restored(kind),
            lambda kind=kind: {"state": _state(kind)},
            finite,
        )
        for kind in _TRACKED
    ),
    Target(
        "mopref.scalarizers.scalarizer_for_problem",
        _GROUP,
        lambda options, **others: scalarizers.scalarizer_for_problem(**others, **keywords(options)),
        lambda: {"name": "tchebycheff", "problem": ZDT1(), "convention": "importance", "options": {"margin": 0.1}},
    ),
    Target(
        "mopref.scalarizers.SCALARIZERS",
        _GROUP,
        lambda part, options: scalarizers.SCALARIZERS.make(part, **keywords(options)),
        lambda: {"part": "pbi", "options": {"ideal": [0.0, 0.0], "theta": 5.0}},
    ),
    *(
        Target(
            f"mopref.gradients.{kind.__name__}",
            _GROUP,
            _weights(kind),
            lambda kind=kind: {
                **{k: v for k, v in options_of(kind.__init__).items() if kind in (gradients.EPO, gradients.CAGrad)},
                "losses": torch.tensor([[1.0, 2.0]]),
                "gramians": torch.tensor([[[2.0, 1.0], [1.0, 3.0]]]),
                "preferences": torch.tensor([[0.25, 0.75]]),
            },
            finite,
            covers=("mopref.gradients.GradientWeighting",),
        )
        for kind in (gradients.EPO, gradients.MGDA, gradients.WeightedMGDA, gradients.CAGrad)
    ),
    Target(
        "mopref.gradients.TorchJD",
        _GROUP,
        lambda method, options: gradients.TorchJD(method, **keywords(options)),
        lambda: {"method": "MGDA", "options": {}},
        weight=0.5,
        refused_alone=without("torchjd"),
    ),
    Target(
        "mopref.gradients.cosines",
        _GROUP,
        gradients.cosines,
        lambda: {"gramians": torch.tensor([[2.0, 1.0], [1.0, 3.0]])},
        weight=0.5,
    ),
    Target("mopref.gradients.gramians", _GROUP, _gramians, _gramian_arguments, finite),
    Target(
        "mopref.gradients.GRADIENT_WEIGHTINGS",
        _GROUP,
        lambda part: gradients.GRADIENT_WEIGHTINGS.make(part),
        lambda: {"part": "mgda"},
        weight=0.5,
    ),
]
