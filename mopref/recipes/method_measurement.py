"""What a comparison's methods are trained with, and what they are measured by and on."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mopref.baselines import MethodOptions, MethodSetup, PromptWriter, Trainings
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.evaluation import prompt_units
from mopref.mixed_precision import autocast
from mopref.recipes.method_cells import KeptTrainings
from mopref.recipes.method_plan import MethodRecipe
from mopref.recipes.method_statistics import HeldOut
from mopref.recipes.models import adapted_model
from mopref.recipes.parts import trainer_config
from mopref.recipes.training import Preparation

__all__ = ["held_out_rows", "method_options", "method_trainings", "preference_scores"]


def method_trainings(ready: Preparation, recipe: MethodRecipe, seed: int, fingerprint: str) -> Trainings:
    """The trainings of one seed, made when a method asks for them and kept in the recipe's output.

    Args:
        ready: the data and parts.
        recipe: complete.
        seed: of adapters, batches and preferences.
        fingerprint: of the settings and data; trainings that are found must have it.
    """
    device = ready.parts.device
    others = {"seed": seed, "cpu": device.type == "cpu"}
    setup = MethodSetup(
        make_model=lambda config: adapted_model(recipe.model, config, device),
        adapter=replace(ready.parts.adapter, seed=seed),
        objective=ready.objective,
        # Each training has points and draws of its own.
        make_scalarizer=lambda: deepcopy(ready.parts.scalarizer),
        make_sampler=lambda: deepcopy(ready.parts.sampler),
        rows=ready.train_rows,
        config=trainer_config(recipe.training, len(ready.train_rows), **others),
        single_learning_rate=recipe.comparison.single_learning_rate,
    )
    return Trainings(setup, KeptTrainings(Path(recipe.output), seed, fingerprint))


def method_options(ready: Preparation, recipe: MethodRecipe, writer: PromptWriter | None, seed: int) -> MethodOptions:
    """What a recipe says of single methods; ``writer`` writes λ into prompts, where a method needs it."""
    comparison, names = recipe.comparison, recipe.objectives
    return MethodOptions(
        ready.parts.preferences,
        writer,
        comparison.bone_beta,
        0 if comparison.modpo_objective is None else names.index(comparison.modpo_objective),
        comparison.activation_block,
        comparison.activation_strength,
        seed,
    )


def preference_scores(ready: Preparation, recipe: MethodRecipe, model: nn.Module) -> Tensor:
    """Scores of both responses of every held-out row at every preference of the recipe: ``(N, rows, 2)``."""
    objective: Any = ready.objective
    at = ready.parts.preferences.to(ready.parts.device, torch.float32)
    with evaluation_mode(model), autocast(ready.parts.device, recipe.training.mixed_precision):
        scores: Tensor = objective.all_scores(model, ready.test_rows, at, recipe.evaluation.batch_size)
    return scores


def held_out_rows(recipe: MethodRecipe, objective: Any, preferences: Tensor, rows: Sequence[Any]) -> HeldOut:
    """What cells of these rows are measured on: labels, prompts, preferences ``(N, m)`` and the reference point."""
    evaluation = recipe.evaluation
    assert evaluation.reference_point is not None
    assert evaluation.interval_level is not None
    labelled = objective.labelled(rows)
    assert labelled is not None
    return HeldOut(
        recipe.objectives,
        preferences.double().cpu().numpy(),
        labelled.numpy(),
        prompt_units(rows),
        np.array(evaluation.reference_point, dtype=np.float64),
        evaluation.interval_level,
        recipe.comparison.resamples,
        recipe.seed,
    )
