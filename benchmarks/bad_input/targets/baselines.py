"""Methods that are compared with ours."""

from functools import lru_cache
from typing import Any

import torch

import mopref
from benchmarks.bad_input import tiny
from benchmarks.bad_input.target import Target, options_of
from benchmarks.bad_input.targets.checks import finite
from mopref import baselines
from mopref.objectives import DPO
from mopref.samplers import UniformSampler
from mopref.scalarizers import Linear

__all__ = ["TARGETS"]

_GROUP = "methods"
_ADAPTER = mopref.SVDLoRAConfig(tiny.NAMES, rank=1, preference_rank=1)


def _model(config: Any) -> Any:
    return mopref.PreferenceModel(tiny.base(), config)


def _setup() -> dict[str, Any]:
    return {
        "make_model": _model,
        "adapter": _ADAPTER,
        "objective": DPO(tiny.NAMES),
        "make_scalarizer": Linear,
        "make_sampler": lambda: UniformSampler(tiny.NAMES),
        "rows": tiny.rows(),
        "config": mopref.TrainerConfig(steps=1, batch_size=2, preferences_per_step=1, progress=False, cpu=True),
    }


@lru_cache
def _trainings() -> Any:
    """With a training that is done: a case spoils what it is asked for."""
    made = baselines.Trainings(baselines.MethodSetup(**_setup()))
    baselines.make_method("ours", made, _options())
    return made


def _options() -> Any:
    return baselines.MethodOptions(torch.eye(2))


def _written(encode: Any, place: Any) -> Any:
    return baselines.PromptWriter(encode, place).written([1, 2, 3], [0.5, 0.5])


def _text(**options: Any) -> Any:
    return baselines.text_writer(tiny.tokenizer(), **options)


def _sampled(n: Any, **options: Any) -> Any:
    made = baselines.FixedSampler(**options)
    repr(made)
    return made.sample(n)


def _at(preference: Any) -> Any:
    return baselines.MethodPolicy("one", tiny.adapted(), baselines.Budget()).at(preference).preference


def _lora() -> Any:
    sizes = {name: (layer.n_out, layer.n_in) for name, layer in tiny.adapted().adapters.items()}
    factors = {name: (torch.ones(1, n_in), torch.ones(n_out, 1)) for name, (n_out, n_in) in sizes.items()}
    return baselines.PlainLoRA(factors, baselines.Cost(1, 1, 1))


TARGETS = [
    Target("mopref.baselines.Budget", _GROUP, baselines.Budget, lambda: options_of(baselines.Budget)),
    Target(
        "mopref.baselines.Budget.of",
        _GROUP,
        baselines.Budget.of,
        lambda: {"costs": [baselines.Cost(1, 2, 3)], "stored_parameters": 4, "passes_per_token": 1.0},
        covers=("mopref.baselines.Cost",),
    ),
    Target("mopref.baselines.MethodPolicy", _GROUP, _at, lambda: {"preference": [0.25, 0.75]}, weight=0.5),
    Target(
        "mopref.baselines.PolicyAt",
        _GROUP,
        baselines.PolicyAt,
        lambda: {"model": tiny.adapted(), "preference": torch.tensor([[0.5, 0.5]])},
        weight=0.3,
    ),
    Target(
        "mopref.baselines.bone_preferences",
        _GROUP,
        baselines.bone_preferences,
        lambda: {"num_objectives": 3, "beta": 0.7},
        finite,
    ),
    Target(
        "mopref.baselines.bone_mixing",
        _GROUP,
        baselines.bone_mixing,
        lambda: {"preferences": torch.tensor([[0.25, 0.75]]), "beta": 0.7},
        finite,
    ),
    Target(
        "mopref.baselines.mixed_log_probabilities",
        _GROUP,
        baselines.mixed_log_probabilities,
        lambda: {"logits": torch.tensor([[0.0, 1.0], [2.0, 0.5]]), "weights": torch.tensor([[0.25], [0.75]])},
    ),
    Target(
        "mopref.baselines.modpo_losses",
        _GROUP,
        baselines.modpo_losses,
        lambda: {
            "margins": torch.tensor([1.0, 2.0]),
            "corner_margins": torch.tensor([[1.0, 2.0], [0.5, 0.25]]),
            "labels": torch.tensor([0, -1]),
            "preference": torch.tensor([0.5, 0.5]),
            "index": 0,
            "beta": 0.1,
        },
    ),
    Target(
        "mopref.baselines.MODPO",
        _GROUP,
        baselines.MODPO,
        lambda: {"names": tiny.NAMES, "preference": [0.5, 0.5], "index": 1, "beta": 0.1},
    ),
    Target("mopref.baselines.check_modpo", _GROUP, baselines.check_modpo, lambda: {"objective": DPO(tiny.NAMES)}),
    Target(
        "mopref.baselines.FixedSampler",
        _GROUP,
        _sampled,
        lambda: {"num_objectives": tiny.NAMES, "preference": [0.5, 0.5], "seed": 0, "n": 2},
        finite,
    ),
    Target("mopref.baselines.PromptWriter", _GROUP, _written, lambda: {"encode": lambda _: [7], "place": 1}),
    Target(
        "mopref.baselines.text_writer",
        _GROUP,
        _text,
        lambda: {"names": tiny.NAMES},
        weight=0.5,
        refused_alone="the tiny tokenizer knows no digits",
    ),
    Target("mopref.baselines.MethodSetup", _GROUP, baselines.MethodSetup, _setup, weight=0.5),
    Target(
        "mopref.baselines.Trainings",
        _GROUP,
        baselines.Trainings,
        lambda: {"setup": baselines.MethodSetup(**_setup()), "keep": None},
        weight=0.3,
        covers=("mopref.baselines.Trained",),
    ),
    Target(
        "mopref.baselines.MethodOptions",
        _GROUP,
        baselines.MethodOptions,
        lambda: options_of(baselines.MethodOptions, preferences=torch.eye(2)),
    ),
    Target(
        "mopref.baselines.make_method",
        _GROUP,
        baselines.make_method,
        lambda: {"name": "ours", "trainings": _trainings(), "options": _options()},
        weight=0.2,
    ),
    Target(
        "mopref.baselines.mixed_model",
        _GROUP,
        baselines.mixed_model,
        lambda: {"make_model": _model, "adapter": _ADAPTER, "loras": [_lora(), _lora()], "slope": 2.0, "offset": -0.5},
        weight=0.2,
        covers=("mopref.baselines.PlainLoRA",),
    ),
]
