"""A comparison of methods, said once: a recipe with a section on methods, seeds and their options."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from mopref.argument_kinds import checked_fields, checked_texts, checks_arguments
from mopref.baselines import METHODS, bone_preferences, check_modpo
from mopref.recipes.figure_names import check_compared_names
from mopref.recipes.mistakes import RecipeError, nearest, settings_at
from mopref.recipes.parts import make_objective
from mopref.recipes.reading import load_recipe
from mopref.recipes.recipe import Recipe
from mopref.recipes.rows import KINDS
from mopref.recipes.run_folder import flat_settings, wherever_files_lie
from mopref.setting_types import python_values

__all__ = [
    "ComparisonSettings",
    "MethodRecipe",
    "check_method_recipe",
    "fingerprint_of",
    "fixed_settings",
    "load_method_recipe",
    "options_of",
]

# Options of single methods, which bind these alone.
_OPTIONS_OF = {
    "comparison.bone_beta": "bone-soup",
    "comparison.modpo_objective": "modpo",
    "comparison.activation_block": "activation",
    "comparison.activation_strength": "activation",
}
# What may differ when a comparison is gone on with: how much of it is done, and what is shown.
_FREE = (
    "comparison.methods",
    "comparison.seeds",
    "comparison.resamples",
    "evaluation.interval_level",
    "training.progress",
    "training.cache_references",
    "training.log_every",
    "output",
)


@dataclass(frozen=True)
class ComparisonSettings:
    """Which methods are trained and measured, and how often.

    Args:
        methods: names of methods, "ours" among them, which the others' gaps are to.
        seeds: of adapters and trainings, one run of each method for each; the data are split by the recipe's seed.
        bone_beta: β of Bone Soup, the weight of its own objective in each run.
        modpo_objective: the objective whose labels MODPO learns from; null for the first.
        activation_block: the block whose output activation addition moves; null for the middle one.
        activation_strength: by how much.
        single_learning_rate: the rate of trainings at one preference (DPS, soups, MODPO, MOD), whose rows all pull one
            way; null for the recipe's. Choose it as carefully as the recipe's, on validation prompts.
        resamples: of the bootstrap over prompts.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    seeds: tuple[int, ...] = (0, 1, 2)
    bone_beta: float = 0.7
    modpo_objective: str | None = None
    activation_block: int | None = None
    activation_strength: float = 1.0
    single_learning_rate: float | None = None
    resamples: int = 10_000

    def __post_init__(self) -> None:
        checked_fields(self)
        object.__setattr__(self, "seeds", python_values(self.seeds, int, "seeds"))
        for name in checked_texts(self.methods, "methods"):
            if name not in METHODS:
                raise ValueError(f"methods hold {name!r}, which is none: {nearest(str(name), METHODS)}")
        for name in ("methods", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} are {list(values)}: give one at least, each once.")
        if "ours" not in self.methods:
            raise ValueError(f"methods are {list(self.methods)}, without 'ours', which gaps are to: add it.")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds are {list(self.seeds)}: they are whole numbers ≥ 0.")
        if self.single_learning_rate is not None and not 0 < self.single_learning_rate < float("inf"):
            raise ValueError(
                f"single_learning_rate is {self.single_learning_rate}: it must be positive and finite, or null for the "
                "recipe's."
            )
        if not isfinite(self.activation_strength):
            raise ValueError(f"activation_strength is {self.activation_strength}: it must be finite.")
        if self.resamples < 2:
            raise ValueError(f"resamples is {self.resamples}: an interval needs two at least, and best ten thousand.")


@dataclass(frozen=True)
class MethodRecipe(Recipe):
    """A recipe whose run is the method "ours" of a comparison.

    Preferences, reference point and sampled prompts are those of ``evaluation``, as of a single run.

    Args:
        comparison: the other methods.
    """

    comparison: ComparisonSettings = ComparisonSettings()


@checks_arguments
def load_method_recipe(path: str | Path, flags: Sequence[str] = ()) -> MethodRecipe:
    """The recipe in a file, with a section ``comparison``; no model and no data is loaded.

    Args:
        path: a YAML file.
        flags: settings by their keys, such as ``--comparison.seeds [0,1]``.

    Raises:
        RecipeError: what ``load_recipe`` refuses, a method that is unknown or does not go with the objective, or a
            setting that a comparison does not heed; with its key.
    """
    recipe = load_recipe(path, flags, kind=MethodRecipe)
    assert isinstance(recipe, MethodRecipe)
    check_method_recipe(recipe)
    return recipe


def check_method_recipe(recipe: MethodRecipe) -> None:
    """Refuse, before the work, what cannot be compared.

    Raises:
        RecipeError: the setting is named.
    """
    kind = KINDS[recipe.objective.name]
    if kind.records != "pairs":
        raise RecipeError(
            "objective.name",
            f"is {recipe.objective.name!r}, which learns from {kind.records}: methods are compared on preference "
            "pairs, so choose dpo, simpo or orpo.",
        )
    evaluation, training = recipe.evaluation, recipe.training
    if len(recipe.objectives) < 2:
        raise RecipeError("objectives", "is a single one: a comparison of fronts needs two or more.")
    check_compared_names(recipe.objectives)
    if evaluation.reference_point is None:
        raise RecipeError(
            "evaluation.reference_point",
            "is null: hypervolumes are under one point that is fixed before; give one number for each objective.",
        )
    if evaluation.interval_level is None:
        raise RecipeError("evaluation.interval_level", "is null: gaps have intervals, so give their level, such as .9.")
    unheeded = {
        "evaluation.prompts": (bool(evaluation.prompts), "sampled_prompts are answered instead"),
        "training.checkpoint_every": (training.checkpoint_every is not None, "whole trainings are gone on from"),
        "training.trackers": (bool(training.trackers), "the folder holds what is measured"),
        "monitoring.evaluation_every": (
            recipe.monitoring.evaluation_every is not None,
            "methods are measured at the end",
        ),
    }
    for key, (is_given, reason) in unheeded.items():
        if is_given:
            raise RecipeError(key, f"is given, and a comparison does not heed it ({reason}): leave it out.")
    _check_options(recipe)


def _check_options(recipe: MethodRecipe) -> None:
    comparison = recipe.comparison
    if "bone-soup" in comparison.methods:
        with settings_at("comparison.bone_beta", []):
            bone_preferences(len(recipe.objectives), comparison.bone_beta)
    if "modpo" in comparison.methods:
        with settings_at("comparison.methods", []):
            check_modpo(make_objective(recipe, None))
    own = comparison.modpo_objective
    if own is not None and own not in recipe.objectives:
        raise RecipeError("comparison.modpo_objective", f"is {own!r}: {nearest(own, recipe.objectives)}")


def fixed_settings(recipe: MethodRecipe) -> dict[str, Any]:
    """The settings that decide on the figures of every method, by their whole keys."""
    return {key: value for key, value in _settings(recipe).items() if key not in _OPTIONS_OF}


def fingerprint_of(recipe: MethodRecipe, content: str, method: str | None = None) -> str:
    """The SHA-256 of what decides on figures, but not of which other methods and seeds there are, or where files lie.

    Args:
        recipe: complete.
        content: tells data and models of other content apart, which may lie anywhere.
        method: whose figures; ``None`` for trainings, whose names have what single methods want otherwise.
    """
    settings = _settings(recipe)
    for key, name in _OPTIONS_OF.items():
        if name != method:
            # As where nobody gave them, so that to change them binds the one method.
            settings[key] = getattr(ComparisonSettings(), key.removeprefix("comparison."))
    return hashlib.sha256(json.dumps([settings, content], sort_keys=True).encode()).hexdigest()


def options_of(method: str) -> list[str]:
    """The whole keys of a method's own options."""
    return [key for key, name in _OPTIONS_OF.items() if name == method]


def _settings(recipe: MethodRecipe) -> dict[str, Any]:
    settings = wherever_files_lie(flat_settings(json.loads(json.dumps(asdict(recipe.completed())))), model=True)
    return {key: value for key, value in settings.items() if key not in _FREE}
