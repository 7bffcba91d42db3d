"""A tiny trainer, and the proof that a checkpoint which it refuses changes nothing of it."""

from pathlib import Path
from typing import Any

import pytest

from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig
from mopref.objectives import Quadratic
from mopref.training.checkpoint import plain_state

STEPS = 4
PROBLEM = Quadratic([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])


def problem_trainer(scalarizer: Any = "tchebycheff", objective: Any = PROBLEM, seed: int = 0, **options: Any) -> Any:
    sampler, callbacks = options.pop("sampler", None), options.pop("callbacks", ())
    config = TrainerConfig(**{"steps": STEPS, "log_every": 3, "progress": False, "cpu": True, **options})
    model = ParetoSetModel.for_problem(PROBLEM, hidden=(4,), seed=seed)
    return ParetoTrainer(model, objective, scalarizer, sampler, None, config, callbacks)


def everything(trainer: ParetoTrainer) -> str:
    """All that a resume could change, as one text."""
    state = {**trainer._state(), "all": dict(trainer.unwrapped_model.state_dict())}
    state["convention"] = getattr(trainer.unwrapped_model, "preference_convention", None)
    tree, tensors = plain_state(state, trainer._record_types)
    return repr((tree, {name: (value.dtype, value.tolist()) for name, value in tensors.items()}))


def assert_refused(trainer: ParetoTrainer, folder: Path, message: str, kind: type[Exception] = ValueError) -> None:
    before = everything(trainer)
    with pytest.raises(kind, match=message) as refusal:
        trainer.train(resume_from=folder)
    assert folder.name in str(refusal.value)
    assert everything(trainer) == before
