"""Models that λ enters."""

from typing import Any

import torch
from torch import nn

import mopref
from benchmarks.bad_input.outcomes import UsersOwnError
from benchmarks.bad_input.target import Target, options_of
from benchmarks.bad_input.targets.checks import whole

__all__ = ["TARGETS"]

_GROUP = "conditioning"


class _Network(nn.Sequential):
    """A base model, whose own errors are the user's."""

    def forward(self, x: Any) -> Any:
        try:
            return super().forward(x)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise UsersOwnError from error


def _network(inputs: int = 3) -> nn.Module:
    return _Network(nn.Linear(inputs, 4), nn.ReLU(), nn.Linear(4, 2))


def _called(kind: Any) -> Any:
    def call(x: Any, preferences: Any, **options: Any) -> Any:
        made = kind(**options)
        repr(made)
        return made(x, preferences=preferences)

    return call


def _pareto_set(preferences: Any, **options: Any) -> Any:
    made = mopref.ParetoSetModel(**options)
    return made(preferences)


def _decision(preferences: Any, **options: Any) -> Any:
    made = mopref.DecisionModel(**options)
    return made(preferences)


def _adapted(base_model: Any, config: Any, x: Any, preferences: Any) -> Any:
    made = mopref.PreferenceModel(base_model, config)
    made(x, preferences=preferences)
    return made.merge([0.5, 0.5])


def _one_method(name: str) -> Any:
    def call(**options: Any) -> Any:
        made = mopref.PreferenceModel(_network(), mopref.SVDLoRAConfig(("a", "b"), rank=1, target_modules="all-linear"))
        return getattr(made, name)(**options)

    return call


_WRAPPERS: dict[Any, dict[str, Any]] = {
    mopref.ConcatenationModel: {"inputs": 5},
    mopref.FiLMModel: {"hidden": (4,), "target_modules": ("0",)},
    mopref.HypernetworkModel: {"hidden": (4,), "embedding_size": 2},
}


def _right(kind: Any, inputs: int = 3, **more: Any) -> dict[str, Any]:
    return {
        **options_of(kind, base_model=_network(inputs), objectives=2, **more),
        "x": torch.ones(2, 3),
        "preferences": torch.tensor([[0.25, 0.75], [0.5, 0.5]]),
    }


def _config() -> mopref.SVDLoRAConfig:
    return mopref.SVDLoRAConfig(("a", "b"), rank=2, preference_rank=1, target_modules="all-linear")


TARGETS = [
    *(
        Target(
            f"mopref.conditioning.{kind.__name__}",
            _GROUP,
            _called(kind),
            lambda kind=kind, more=more: _right(kind, **more),
            covers=(f"mopref.{kind.__name__}", "mopref.conditioning.ConditionedModel"),
        )
        for kind, more in _WRAPPERS.items()
    ),
    Target(
        "mopref.conditioning.ParetoSetModel",
        _GROUP,
        _pareto_set,
        lambda: options_of(
            mopref.ParetoSetModel,
            num_objectives=2,
            num_variables=3,
            hidden=(4,),
            preferences=torch.tensor([[0.25, 0.75]]),
        ),
        covers=("mopref.ParetoSetModel",),
        weight=2,
    ),
    Target(
        "mopref.conditioning.DecisionModel",
        _GROUP,
        _decision,
        lambda: {
            "network": mopref.ConcatenationModel(_Network(nn.Linear(4, 3)), 2),
            "num_variables": 3,
            "bounds": (0.0, 1.0),
            "anchor": [0.5, 0.5],
            "preferences": torch.tensor([[0.25, 0.75]]),
        },
        covers=("mopref.DecisionModel",),
        weight=2,
    ),
    Target(
        "mopref.conditioning.SVDLoRAConfig",
        _GROUP,
        mopref.SVDLoRAConfig,
        lambda: options_of(mopref.SVDLoRAConfig, objectives=("a", "b")),
        whole("rank", "preference_rank", "seed"),
        covers=("mopref.SVDLoRAConfig",),
        weight=3,
    ),
    Target(
        "mopref.conditioning.PreferenceModel",
        _GROUP,
        _adapted,
        lambda: {
            "base_model": _network(),
            "config": _config(),
            "x": torch.ones(2, 3),
            "preferences": torch.tensor([[0.25, 0.75], [0.5, 0.5]]),
        },
        covers=("mopref.PreferenceModel",),
        weight=2,
    ),
    *(
        Target(f"mopref.conditioning.PreferenceModel.{name}", _GROUP, _one_method(name), right, writes=True)
        for name, right in (
            ("merge", lambda: {"preference": [0.5, 0.5]}),
            ("save_pretrained", lambda: {"folder": "adapter"}),
            ("export_lora", lambda: {"folder": "lora", "preference": [0.5, 0.5]}),
            ("export_lora_set", lambda: {"folder": "loras"}),
        )
    ),
]
