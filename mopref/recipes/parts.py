"""The parts of a run, made of a recipe: whatever one of them refuses is refused before any model or data is loaded."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from itertools import count
from typing import Any, NamedTuple

import torch

from mopref._agreement import launched_processes, process_count
from mopref.conditioning import SVDLoRAConfig
from mopref.gradients import GRADIENT_WEIGHTINGS, GradientWeighting
from mopref.llm.rewards import token_reward
from mopref.objective import Objective
from mopref.objective_names import checked_names
from mopref.preferences import simplex_lattice, validate_preferences
from mopref.recipes.figure_names import check_export_names, check_figure_names
from mopref.recipes.mistakes import RecipeError, nearest, settings_at
from mopref.recipes.part_options import make_part
from mopref.recipes.recipe import Recipe, TrainingSettings
from mopref.recipes.reward_parts import check_judges, check_rewards
from mopref.recipes.rows import KINDS, RowKind
from mopref.recipes.sources import check_loader
from mopref.registry import OBJECTIVES, SAMPLERS, SCALARIZERS
from mopref.sampler import PreferenceSampler
from mopref.samplers import ConeSampler
from mopref.scalarizer import Scalarizer
from mopref.training import TrainerConfig
from mopref.training.joint_step import needs_joint_step
from mopref.training.shares import step_layout

__all__ = ["Parts", "checked_device", "make_objective", "make_parts", "trainer_config"]


class Parts(NamedTuple):
    """What a run is made of, beside model and data.

    Attributes:
        kind: what the objective learns from.
        scalarizer: a scalarizer or gradient weighting.
        sampler: draws the preferences.
        adapter: the adapters' settings.
        preferences: what the front is measured at, ``(N, m)``.
        device: where the model goes.
    """

    kind: RowKind
    scalarizer: Scalarizer | GradientWeighting
    sampler: PreferenceSampler
    adapter: SVDLoRAConfig
    preferences: torch.Tensor
    device: torch.device


def make_parts(recipe: Recipe, for_training: bool = True) -> Parts:
    """Every part that needs neither the model nor the data; the others' options are checked.

    Args:
        recipe: the settings.
        for_training: whether its steps have to be those that as many processes as there are here can share.

    Raises:
        RecipeError: a part that does not exist, or a value that one refuses; the setting is named.
    """
    recipe = recipe.completed()
    with settings_at("", ["objectives"]):
        names = checked_names(recipe.objectives, "objectives")
    check_figure_names(names)
    if not recipe.output.strip():
        raise RecipeError("output", f"is {recipe.output!r}, which names no folder: give its path, '.' for this one.")
    if for_training:
        # Else an adapter that is there already could not be used any more.
        check_export_names(names, recipe.adapter.gate)
    if recipe.objective.name not in KINDS:
        known = nearest(recipe.objective.name, KINDS)
        raise RecipeError("objective.name", f"is {recipe.objective.name!r}: recipes know no such objective; {known}")
    kind = KINDS[recipe.objective.name]
    check_loader(recipe, kind)
    objective = make_objective(recipe, None)
    check_rewards(recipe)
    check_judges(recipe)
    weighting = recipe.scalarizer.name in GRADIENT_WEIGHTINGS
    scalarizer = make_part(GRADIENT_WEIGHTINGS if weighting else SCALARIZERS, recipe.scalarizer, "scalarizer")
    with settings_at("scalarizer.options", []):
        scalarizer.check_objectives(len(names))
    said = {"num_objectives": "objectives", "seed": "seed"}
    sampler = make_part(SAMPLERS, recipe.sampler, "sampler", said, num_objectives=names)
    settings = {setting.name: getattr(recipe.adapter, setting.name) for setting in fields(recipe.adapter)}
    with settings_at("", ["seed"]):
        TrainerConfig(seed=recipe.seed)
    with settings_at("adapter", settings):
        adapter = SVDLoRAConfig(names, **settings, seed=recipe.seed)
    if for_training:
        if isinstance(sampler, ConeSampler):
            _check_cone(recipe)
        config = trainer_config(recipe.training, 1)
        with settings_at("training", ["batch_size"]):
            layout = step_layout(config, objective, True, process_count())
        with settings_at("training.preferences_per_step", []):
            needs_joint_step(layout, scalarizer)
    preferences = _preferences(recipe)
    _check_length(recipe.evaluation.reference_point, len(names), "evaluation.reference_point")
    _check_monitoring(recipe)
    _check_data(recipe)
    return Parts(kind, scalarizer, sampler, adapter, preferences, checked_device(recipe.model.device))


def _check_cone(recipe: Recipe) -> None:
    """Refuse to draw strengths where the last objective is no pull, or its weight is no strength."""
    if recipe.pull is None:
        raise RecipeError(
            "sampler.name",
            f"is {recipe.sampler.name!r}, for which the last objective is the pull to the reference, but "
            f"{recipe.objectives[-1]!r} is none: give rlhf's option pull, or choose another sampler.",
        )
    if recipe.scalarizer.name != "linear":
        raise RecipeError(
            "scalarizer.name",
            f"is {recipe.scalarizer.name!r}, and sampler.name is {recipe.sampler.name!r}, which draws strengths: the "
            "weight of a pull is one with linear only, so choose that, or another sampler.",
        )


def make_objective(recipe: Recipe, tokenizer: Any, rewards: Mapping[str, Any] | None = None) -> Objective:
    """The objective; of one with rewards, without them, only the options are tried."""
    if not KINDS[recipe.objective.name].takes_rewards:
        said = {"names": "objectives"}
        objective: Objective = make_part(OBJECTIVES, recipe.objective, "objective", said, names=recipe.objectives)
        return objective
    parts = rewards if rewards is not None else dict.fromkeys(recipe.without_pull, _no_reward)
    said = {"rewards": "rewards", "tokenizer": "model", "seed": "seed"}
    given = {"rewards": parts, "tokenizer": tokenizer, "seed": recipe.seed}
    settings = recipe.objective
    if rewards is None:
        # What ends a response is the tokenizer's to say, which is not loaded yet.
        sampling = settings.options.get("sampling") or {}
        ended = {**sampling, "stop_token_ids": []} if isinstance(sampling, Mapping) else sampling
        settings = replace(settings, options={**settings.options, "sampling": ended})
    objective = make_part(OBJECTIVES, settings, "objective", said, **given)
    return objective


@token_reward
def _no_reward(prompts: Sequence[Any], responses: Sequence[str]) -> Any:
    raise AssertionError("only stands for a reward while options are tried.")


def _check_length(point: Any, count: int, key: str) -> None:
    if point is not None and len(point) != count:
        raise RecipeError(key, f": a point has {len(point)} numbers, and there are {count} objectives; give one each.")


def trainer_config(training: TrainingSettings, rows: int, **others: Any) -> TrainerConfig:
    """The trainer's settings; epochs become steps, each of ``batch_size · accumulation · processes`` rows.

    Raises:
        RecipeError: a value out of its range; the setting is named.
    """
    skipped = ("steps", "epochs", "checkpoint_every", "cache_references")
    settings = {s.name: getattr(training, s.name) for s in fields(training) if s.name not in skipped}
    with settings_at("training", [*settings, "steps", "checkpoint_every"]):
        every = training.checkpoint_every
        # Its range is the trainer's to check, also where no folder is named yet.
        others = {"output_dir": "." if every is not None else None, **others, "checkpoint_every": every}
        config = TrainerConfig(steps=1 if training.steps is None else training.steps, **settings, **others)
        groups = step_layout(config, processes=process_count()).groups
        if config.batch_size % groups:
            raise ValueError(
                f"batch_size is {config.batch_size}: preferences_per_step = {config.preferences_per_step} preferences "
                f"share its rows evenly, so it must be a multiple of {groups}."
            )
    if training.epochs is None:
        return config
    in_step = config.batch_size * config.gradient_accumulation_steps * process_count()
    steps = max(1, -int(-training.epochs * rows // in_step))
    return TrainerConfig(steps=steps, **settings, **others)


def _preferences(recipe: Recipe) -> torch.Tensor:
    """What the front is measured at."""
    evaluation, names = recipe.evaluation, recipe.objectives
    if evaluation.preferences is not None:
        with settings_at("evaluation.preferences", []):
            return validate_preferences(evaluation.preferences, names)
    assert evaluation.points is not None
    with settings_at("evaluation.points", []):
        lattice = simplex_lattice(len(names), evaluation.points)
    if len(lattice) != evaluation.points:
        larger = next(n for n in count(evaluation.points) if len(simplex_lattice(len(names), n)) == n)
        raise RecipeError(
            "evaluation.points",
            f"is {evaluation.points}: no even lattice of {len(names)} objectives has so many points, so choose "
            f"{len(lattice)} or {larger}, or give evaluation.preferences.",
        )
    return lattice


def checked_device(name: str) -> torch.device:
    """The device of that name; with "auto" the GPU where there is one. Each of several processes has a GPU of its own.

    Raises:
        RecipeError: there is no such device, or one for all processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if (processes := launched_processes()) > 1 and name != "cpu":
        if name != "cuda":
            problem = f"is {name!r}, and there are {processes} processes, each of which needs a device of its own: "
            raise RecipeError("model.device", problem + "choose cuda, cpu or auto.")
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError("model.device", f"is {name!r}: choose auto, cpu, cuda, or cuda:1 and so on.") from None
    is_there = device.type != "cuda" or (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count())
    with suppress(Exception):  # Each kind has its own, also one that holds no numbers ("meta").
        if is_there and torch.ones(1, device=device).item() == 1:
            return device
    raise RecipeError("model.device", f"is {name!r}: PyTorch sees no such device here; choose cpu or auto.")


def _check_monitoring(recipe: Recipe) -> None:
    for name in ("patience", "keep_best"):
        if getattr(recipe.monitoring, name) and recipe.evaluation.reference_point is None:
            raise RecipeError(
                f"monitoring.{name}",
                f"is {getattr(recipe.monitoring, name)}: the best is that of the largest hypervolume, so give "
                "evaluation.reference_point, which it is measured from.",
            )
    if recipe.monitoring.answers and not recipe.evaluation.prompts:
        raise RecipeError(
            "monitoring.answers", "is True: the answers are to evaluation.prompts, so give some there, or leave it out."
        )


def _check_data(recipe: Recipe) -> None:
    """Refuse limits of which nothing is left, and a model or a revision without a name."""
    data = recipe.data
    for name in ("name", "tokenizer"):
        value = getattr(recipe.model, name)
        if value is not None and not value.strip():
            raise RecipeError(f"model.{name}", f"is {value!r}, which names nothing: give a hub id or a folder.")
    revision = recipe.model.revision
    if revision is not None and not revision.strip():
        raise RecipeError("model.revision", f"is {revision!r}: give a branch, a tag or a commit, or leave it out.")
    for name in ("max_prompt_length", "max_response_length"):
        if getattr(data, name) < 1:
            raise RecipeError(
                f"data.{name}", f"is {getattr(data, name)}: nothing would be left, so it must be ≥ 1 token."
            )
    if data.test_fraction is not None and not 0 < data.test_fraction < 1:
        raise RecipeError("data.test_fraction", f"is {data.test_fraction}: it is a share, so it must be in (0, 1).")
