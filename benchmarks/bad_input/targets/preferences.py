"""Preferences, lattices, samplers, and what all settings are checked with."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import mopref
from benchmarks.bad_input.outcomes import Nonsense
from benchmarks.bad_input.target import Target, options_of
from benchmarks.bad_input.targets.checks import finite, on_simplex
from mopref import bootstrap, preferences, registry, sampler, samplers
from mopref.scalarizers import Linear

__all__ = ["TARGETS"]

_GROUP = "preferences, samplers, bootstrap"
_NAMES = ("helpful", "harmless")


def _drawn(kind: Any) -> Any:
    def call(n: int, new_seed: int, **options: Any) -> Any:
        made = kind(**options)
        repr(made)
        made.seed(new_seed)
        made.observe(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 2.0]]), Linear())
        made.load_state_dict(made.state_dict())
        return made.sample(n)

    return call


def _restored(state: Any) -> Any:
    made = samplers.UniformSampler(2)
    made.load_state_dict(state)
    return made.sample(3)


def _registered(name: Any, kind: Any, part: Any, asked: Any) -> None:
    parts: Any = registry.Registry(kind)
    parts.register(name)(part)
    repr(parts)
    parts.make(asked)
    parts.find(asked)


_SAMPLERS = {
    samplers.AdaptiveSampler: {},
    samplers.DirichletSampler: {"alpha": [1.0, 2.0]},
    samplers.UniformSampler: {},
    samplers.LatticeSampler: {"num_points": 5},
    samplers.LowDiscrepancySampler: {},
    samplers.StratifiedSampler: {},
    samplers.VertexBiasedSampler: {},
    samplers.CurriculumSampler: {},
    samplers.ConeSampler: {},
}


def _ordered(result: Any, arguments: Mapping[str, Any]) -> None:
    """Bounds in their order, or NaN where every resample is left out."""
    if np.isnan(result[..., 0]).all() or (np.diff(result[~np.isnan(result).any(-1)], axis=-1) >= 0).all():
        return
    raise Nonsense(f"the interval is {result}")


def _finite_means(result: Any, arguments: Mapping[str, Any]) -> None:
    """Of one prompt alone nothing is known of its spread, which is documented as NaN."""
    finite(result if len(set(arguments["units"])) > 1 else result.means, arguments)


TARGETS = [
    Target(
        "mopref.preferences.validate_preferences",
        _GROUP,
        preferences.validate_preferences,
        lambda: {"preferences": np.array([[0.25, 0.75], [1.0, 0.0]]), "objectives": 2},
        on_simplex,
        weight=4,
    ),
    Target(
        "mopref.preferences.validate_preferences",
        _GROUP,
        preferences.validate_preferences,
        lambda: {"preferences": {"harmless": 0.75, "helpful": 0.25}, "objectives": _NAMES},
        on_simplex,
        weight=4,
    ),
    Target(
        "mopref.preferences.validate_preferences",
        _GROUP,
        preferences.validate_preferences,
        lambda: {"preferences": torch.tensor([[0.25, 0.75]]), "objectives": _NAMES},
        on_simplex,
        weight=4,
    ),
    Target(
        "mopref.samplers.cone_preferences",
        _GROUP,
        samplers.cone_preferences,
        lambda: {"balances": [[0.25, 0.75], [1.0, 0.0]], "strengths": [0.5, 2.0], "objectives": 2},
        on_simplex,
    ),
    *(
        Target(
            "mopref.preferences.simplex_lattice",
            _GROUP,
            mopref.simplex_lattice,
            lambda method=method: {"num_objectives": 3, "num_points": 6, "method": method},
            on_simplex,
            covers=("mopref.simplex_lattice",),
            weight=2 if method == "das-dennis" else 0.2,
        )
        for method in ("das-dennis", "riesz-energy")
    ),
    Target(
        "mopref.preferences.simplex_cells",
        _GROUP,
        preferences.simplex_cells,
        lambda: {"num_objectives": 3, "num_cells": 6},
        finite,
    ),
    Target(
        "mopref.preferences.uniform_preferences",
        _GROUP,
        preferences.uniform_preferences,
        lambda: {"num_objectives": 3, "n": 6, "generator": np.random.default_rng(0)},
        on_simplex,
    ),
    *(
        Target(
            f"mopref.samplers.{kind.__name__}",
            _GROUP,
            _drawn(kind),
            lambda kind=kind, more=more: options_of(kind, num_objectives=2, n=3, new_seed=1, **more),
            on_simplex,
            covers=("mopref.sampler.PreferenceSampler", "mopref.samplers.PreferenceSampler"),
        )
        for kind, more in _SAMPLERS.items()
    ),
    Target(
        "mopref.sampler.PreferenceSampler",
        _GROUP,
        _restored,
        lambda: {"state": samplers.UniformSampler(2).state_dict()},
        on_simplex,
    ),
    Target(
        "mopref.sampler.objective_count",
        _GROUP,
        sampler.objective_count,
        lambda: {"num_objectives": _NAMES},
    ),
    Target(
        "mopref.registry.Registry",
        _GROUP,
        _registered,
        lambda: {"name": "mine", "kind": "part", "part": dict, "asked": "mine"},
    ),
    *(
        Target(
            f"mopref.registry.{name}",
            _GROUP,
            getattr(registry, name).make,
            lambda part=part: dict(part=part, **({"num_objectives": 2} if part == "uniform" else {})),
        )
        for name, part in (("SAMPLERS", "uniform"), ("SCALARIZERS", "tchebycheff"), ("OBJECTIVES", "zdt1"))
    ),
    Target(
        "mopref.bootstrap.bootstrap_means",
        _GROUP,
        bootstrap.bootstrap_means,
        lambda: {
            "values": np.array([[1.0, 2.0], [0.0, 1.0], [2.0, 2.0]]),
            "counted": np.ones((3, 2), bool),
            "units": ["a", "b"],
            "resamples": 5,
            "seed": 0,
        },
        _finite_means,
        weight=2,
        covers=("mopref.bootstrap.BootstrapMeans",),
    ),
    Target(
        "mopref.bootstrap.percentile_interval",
        _GROUP,
        bootstrap.percentile_interval,
        lambda: {"resampled": np.arange(12.0).reshape(6, 2), "level": 0.9},
        _ordered,
    ),
    Target(
        "mopref.bootstrap.paired_p_value",
        _GROUP,
        bootstrap.paired_p_value,
        lambda: {"differences": [0.5, -0.25, 0.75]},
    ),
    Target("mopref.bootstrap.holm", _GROUP, bootstrap.holm, lambda: {"p_values": [0.01, 0.04, 0.5]}),
    Target(
        "mopref.bootstrap.checked_level",
        _GROUP,
        # Its name is a word of the caller's code, and no input.
        bootstrap.checked_level,
        lambda: {"level": 0.9},
        finite,
    ),
]
