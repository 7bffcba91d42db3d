"""Checkpoints sealed by one who knows the format, whose content would end a run later, or turn it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from _checkpoints import about_run
from _refused_runs import assert_refused, problem_trainer

from mopref.objective import Update
from mopref.training.checkpoint import load_state, save_state


@pytest.fixture
def checkpoint(tmp_path):
    problem_trainer(checkpoint_every=2, output_dir=tmp_path).train()
    return tmp_path / "checkpoint-2"


def group_with(**change: Any) -> Callable[[dict], None]:
    return lambda state: state["optimizer"]["param_groups"][0].update(change)


def moments_of(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    def harm(state: dict) -> None:
        state["optimizer"]["state"][0][name] = change(state["optimizer"]["state"][0][name])

    return harm


def waiting(**change: Any) -> Callable[[dict], None]:
    update = Update(None, torch.ones(1, 2) / 2, {}, ())._replace(**change)
    return lambda state: state.update(pending=[[update]])


# Each was gone on from before, to NaN weights, the other direction or an error of a later step.
FORGED: dict[str, tuple[Callable[[dict], Any], str]] = {
    "ascent": (group_with(maximize=True), "'optimizer'"),
    "another method": (group_with(amsgrad=True), "'optimizer'"),
    "another way of computing": (group_with(capturable=True), "'optimizer'"),
    "another weight decay": (group_with(weight_decay=1e6), "'optimizer'"),
    "another epsilon": (group_with(eps=1e9), "'optimizer'"),
    "other betas": (group_with(betas=(0.0, 0.0)), "'optimizer'"),
    "betas that are none": (group_with(betas="xy"), "'optimizer'"),
    "betas out of range": (group_with(betas=(5.0, -3.0)), "'optimizer'"),
    "a NaN rate": (group_with(lr=float("nan")), "'optimizer'"),
    "a rate below 0": (group_with(lr=-1.0), "'optimizer'"),
    "a NaN mean": (moments_of("exp_avg", lambda value: value * torch.nan), "'optimizer'"),
    "squares below 0": (moments_of("exp_avg_sq", lambda value: value - 1), "'optimizer'"),
    "whole numbers": (moments_of("exp_avg", lambda value: value.long()), "'optimizer'"),
    "complex numbers": (moments_of("exp_avg", lambda value: value * 1j), "'optimizer'"),
    "steps of moments below 0": (moments_of("step", lambda value: value * 0 - 1), "'optimizer'"),
    "NaN steps of moments": (moments_of("step", lambda value: value * torch.nan), "'optimizer'"),
    "a truth for steps": (moments_of("step", lambda value: value.bool()), "'optimizer'"),
    "NaN weights": (lambda s: s["model"]["net.0.weight"].fill_(torch.nan), "values that are not finite"),
    "an empty entry": (lambda s: s.update(history=[{}]), "'history'"),
    "an entry of texts": (lambda s: s.update(history=[{"step": 1, "loss": "x"}]), "'history'"),
    "an entry without losses": (lambda s: s.update(history=[{"step": 1, "loss": 1.0}]), "'history'"),
    "an entry of a step to come": (
        lambda s: s.update(history=[{"step": 99, "loss": 1.0, "loss/f1": 1.0, "loss/f2": 1.0}]), "'history'"
    ),
    "other numbers of a step": (lambda s: s["unlogged"][0].insert(0, torch.zeros(99)), "'unlogged'"),
    "sums that are none": (lambda s: s["unlogged"][1].update(kl=["x"]), "nothing of it was loaded"),
    "preferences of no update": (waiting(preferences="x"), "'pending'"),
    "preferences of three": (waiting(preferences=torch.ones(1, 3) / 3), "'pending'"),
    "metrics of no update": (waiting(metrics=3), "'pending'"),
    "a metric of no update": (waiting(metrics={"kl": "x"}), "'pending'"),
    "rows of no update": (waiting(rows=("x",)), "'pending'"),
    "a NaN ideal point": (lambda s: s["scalarizer"]["lowest"].fill_(torch.nan), "lowest holds values that are not"),
    "an infinite ideal point": (lambda s: s["scalarizer"]["lowest"].fill_(-torch.inf), "lowest holds values that are"),
}  # fmt: skip


@pytest.mark.parametrize("harm", FORGED)
def test_what_would_end_or_turn_the_run_later_is_refused_at_once(harm, checkpoint):
    types = problem_trainer()._record_types
    state = load_state(checkpoint, types)
    change, message = FORGED[harm]
    change(state)
    save_state(state, checkpoint, types, about_run(checkpoint))
    assert_refused(problem_trainer(seed=3), checkpoint, message)
