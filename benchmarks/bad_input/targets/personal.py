"""Preferences from choices and from targets."""

from typing import Any

import torch

from benchmarks.bad_input import tiny
from benchmarks.bad_input.outcomes import Nonsense
from benchmarks.bad_input.target import Target, options_of
from benchmarks.bad_input.targets.fronts import front
from mopref import personal

__all__ = ["TARGETS"]

_GROUP = "preferences of people"
_NAMES = ("helpful", "harmless")
_COVERED = ("mopref.personal.FittedPreference", "mopref.personal.CredibleRegion")


def _margins() -> personal.PairMargins:
    return personal.PairMargins([[1.0, -1.0], [0.5, 1.0], [-1.0, 0.25]], _NAMES)


def _made(preferences: Any, **options: Any) -> Any:
    made = personal.PairMargins(**options)
    repr(made), len(made)
    return made.at(preferences)


def _contained(choices: Any, preference: Any, level: Any) -> Any:
    region = personal.fit_choices(_margins(), choices, level=level).region
    repr(region), region.volume
    return region.contains(preference)


def _asked(**options: Any) -> Any:
    """Few points of the model, since forwards take long."""
    return personal.pair_margins(tiny.adapted(), **options)


def _fitted(**options: Any) -> Any:
    return personal.fit_preference(tiny.adapted(), **options)


def _lies_on_the_simplex(result: Any, arguments: Any) -> None:
    weights = result.preference
    if not bool(weights.isfinite().all() and (weights >= 0).all()) or abs(float(weights.sum()) - 1) > 1e-6:
        raise Nonsense(f"the preference {weights.tolist()} lies on no simplex")


def _comparisons() -> list[dict[str, Any]]:
    return [{**row, "choice": place % 2} for place, row in enumerate(tiny.rows())]


TARGETS = [
    Target(
        "mopref.personal.margin_nodes",
        _GROUP,
        personal.margin_nodes,
        lambda: {"num_objectives": 2, "steps": 3},
        weight=0.5,
    ),
    Target(
        "mopref.personal.PairMargins",
        _GROUP,
        _made,
        lambda: {
            "values": torch.tensor([[1.0, -1.0], [0.5, 1.0]]),
            "names": _NAMES,
            "keys": ["a", "b"],
            "preferences": [0.5, 0.5],
        },
    ),
    Target(
        "mopref.personal.fit_choices",
        _GROUP,
        personal.fit_choices,
        lambda: options_of(personal.fit_choices, margins=_margins(), choices={0: 1, 2: 0}),
        check=_lies_on_the_simplex,
        weight=2,
        covers=_COVERED,
    ),
    Target(
        "mopref.personal.CredibleRegion",
        _GROUP,
        _contained,
        lambda: {"choices": {0: 1}, "preference": [0.25, 0.75], "level": 0.9},
    ),
    Target(
        "mopref.personal.next_question",
        _GROUP,
        personal.next_question,
        lambda: options_of(personal.next_question, margins=_margins(), choices={0: 1}),
        covers=("mopref.personal.Question",),
    ),
    Target(
        "mopref.personal.pair_margins",
        _GROUP,
        _asked,
        lambda: {"pairs": tiny.rows(), "beta": 0.1, "steps": 1, "batch_size": 2, "progress": False},
        weight=0.4,
    ),
    Target(
        "mopref.personal.fit_preference",
        _GROUP,
        _fitted,
        lambda: {
            "comparisons": _comparisons(),
            "beta": 0.1,
            "alpha": 1.0,
            "decisiveness": (0.5, 2.0),
            "level": 0.9,
            "steps": 1,
            "batch_size": 2,
            "progress": False,
        },
        check=_lies_on_the_simplex,
        weight=0.4,
    ),
    Target(
        "mopref.personal.from_targets",
        _GROUP,
        personal.from_targets,
        lambda: {"front": front(), "targets": {"a": 0.6}, "then": "b", "probability": 0.9},
        check=_lies_on_the_simplex,
        weight=2,
        covers=("mopref.personal.TargetedPreference",),
    ),
]
