"""Trainers, their settings and callbacks, on a problem that takes a millisecond a step."""

from dataclasses import fields
from typing import Any

import torch

import mopref
from benchmarks.bad_input.outcomes import Nonsense
from benchmarks.bad_input.target import Target, options_of
from mopref import objective
from mopref.objectives import ZDT1
from mopref.samplers import UniformSampler
from mopref.scalarizers import Linear

__all__ = ["TARGETS"]

_GROUP = "training"


def _config() -> mopref.TrainerConfig:
    return mopref.TrainerConfig(steps=2, preferences_per_step=2, cpu=True, progress=False)


def _trainer(**parts: Any) -> mopref.ParetoTrainer:
    right: dict[str, Any] = {
        "model": mopref.ParetoSetModel(2, 30, hidden=(4,)),
        "objective": ZDT1(),
        "scalarizer": Linear(),
        "config": _config(),
    }
    return mopref.ParetoTrainer(**{**right, **parts})


def _parts() -> dict[str, Any]:
    return {
        "model": mopref.ParetoSetModel(2, 30, hidden=(4,)),
        "objective": "zdt1",
        "scalarizer": "linear",
        "sampler": UniformSampler(2),
        "train_data": None,
        "config": _config(),
        "callbacks": (mopref.HypervolumeCallback(3, [11.0, 11.0], every=1),),
    }


def _trained(**parts: Any) -> Any:
    trainer = mopref.ParetoTrainer(**parts)
    if trainer.config.steps > 10:
        # Another number of steps than two: that it was taken is all.
        return None
    history = trainer.train()
    if history[-1]["step"] != trainer.config.steps:
        raise Nonsense("fewer steps than asked for")
    return history


def _own_types(result: Any, arguments: Any) -> None:
    kinds = {"int": int, "float": float, "bool": bool, "str": str}
    for entry in fields(result):
        wanted = kinds.get(str(entry.type).removeprefix("<class '").removesuffix("'>"))
        if wanted is not None and type(getattr(result, entry.name)) is not wanted:
            raise Nonsense(f"{entry.name} became {getattr(result, entry.name)!r}")
    if not 0 < result.learning_rate < float("inf"):
        raise Nonsense(f"learning_rate is {result.learning_rate}")


class _Rows(objective.RowObjective):
    """Losses of rows of numbers, spoilt in their shape, type or content."""

    def __init__(self, values: Any, labelled: Any, names: Any) -> None:
        self.names, self.values, self.label = names, values, labelled

    def num_rows(self, batch: Any) -> int:
        return len(batch)

    def labelled(self, data: Any) -> Any:
        return self.label

    def collate(self, rows: Any) -> Any:
        return rows

    def row_losses(self, model: Any, batch: Any, preferences: Any) -> Any:
        return objective.RowLosses(self.values, self.label)


class _Own(objective.Objective):
    """Losses that a user's own objective may return."""

    needs_data = False

    def __init__(self, values: Any, names: Any) -> None:
        self.names, self.values = names, values

    def losses(self, model: Any, batch: Any, preferences: Any) -> Any:
        # A new graph for each step, where there is one.
        return self.values * 1.0 if isinstance(self.values, torch.Tensor) else self.values


def _own_losses(values: Any, names: Any) -> Any:
    return _trainer(objective=_Own(values, names)).train()


def _own_rows(values: Any, labelled: Any, names: Any, data: Any) -> Any:
    return _trainer(objective=_Rows(values, labelled, names), train_data=data).train()


def _resumed(resume_from: Any) -> Any:
    trainer = _trainer()
    trainer.train()
    trainer.save_checkpoint("checkpoint")
    return _trainer().train(resume_from=resume_from)


def _with_callback(kind: Any) -> Any:
    return lambda **options: _trainer(callbacks=[kind(**options)]).train()


def _evaluation_options() -> dict[str, Any]:
    return options_of(mopref.EvaluationCallback)


TARGETS = [
    Target(
        "mopref.training.TrainerConfig",
        _GROUP,
        mopref.TrainerConfig,
        lambda: options_of(mopref.TrainerConfig),
        _own_types,
        weight=5,
        covers=("mopref.TrainerConfig",),
    ),
    Target(
        "mopref.training.ParetoTrainer",
        _GROUP,
        _trained,
        _parts,
        weight=0.5,
        covers=("mopref.ParetoTrainer", "mopref.training.TrainerCallback", "mopref.TrainerCallback"),
    ),
    Target(
        "mopref.objective.Objective",
        _GROUP,
        _own_losses,
        lambda: {"values": torch.ones(2, 2, requires_grad=True), "names": ("a", "b")},
        weight=0.3,
        covers=("mopref.Objective", "mopref.objective.Losses", "mopref.objective.Metric", "mopref.objective.Update"),
    ),
    Target(
        "mopref.training.ParetoTrainer.train",
        _GROUP,
        _resumed,
        lambda: {"resume_from": "checkpoint"},
        weight=0.3,
    ),
    Target(
        "mopref.training.ParetoTrainer.front",
        _GROUP,
        lambda **options: _trainer().front(**options),
        lambda: {"preferences": 3, "data": None},
        weight=0.5,
    ),
    Target(
        "mopref.training.ParetoTrainer.save_checkpoint",
        _GROUP,
        lambda folder: _trainer().save_checkpoint(folder),
        lambda: {"folder": "checkpoint"},
        weight=0.3,
        writes=True,
    ),
    Target(
        "mopref.training.HypervolumeCallback",
        _GROUP,
        _with_callback(mopref.HypervolumeCallback),
        lambda: {"preferences": 3, "reference_point": [11.0, 11.0], "every": 1, "data": None},
        weight=0.5,
        covers=("mopref.HypervolumeCallback",),
    ),
    Target(
        "mopref.training.EvaluationCallback",
        _GROUP,
        lambda **options: mopref.EvaluationCallback(**options),
        _evaluation_options,
        covers=("mopref.EvaluationCallback",),
    ),
    Target(
        "mopref.training.memory_estimate",
        _GROUP,
        mopref.training.memory_estimate,
        lambda: {"model": torch.nn.Linear(2, 2), "optimizer": "adamw", "processes": 2, "is_sharded": True},
        covers=("mopref.training.MemoryEstimate",),
    ),
    Target(
        "mopref.training.shard_base",
        _GROUP,
        mopref.training.shard_base,
        lambda: {"model": torch.nn.Linear(2, 2)},
        refused_alone="there is no group of processes",
    ),
    Target(
        "mopref.objective.spread_evenly",
        _GROUP,
        objective.spread_evenly,
        lambda: {"preferences": torch.tensor([[0.5, 0.5], [0.0, 1.0]]), "rows": 4},
    ),
    Target(
        "mopref.objective.RowObjective",
        _GROUP,
        _own_rows,
        lambda: {
            "values": torch.ones(8, 2, requires_grad=True),
            "labelled": torch.ones(8, 2, dtype=torch.bool),
            "names": ("a", "b"),
            "data": [{"x": 1.0}] * 8,
        },
        weight=0.3,
        covers=("mopref.RowObjective", "mopref.objective.RowLosses"),
    ),
]
