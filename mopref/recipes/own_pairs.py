"""Preference pairs by the model of a recipe itself, labelled by the recipe's rewards, as a file to train on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mopref._atomic_writes import write_atomically
from mopref._paths import checked_path
from mopref.llm.data import label_counts
from mopref.llm.data.records import LabelCounts, prompt_key
from mopref.llm.pairs import on_policy_pairs
from mopref.llm.pairs.on_policy import checked_gaps
from mopref.llm.policy_gradient.rollout import RolloutSettings
from mopref.mixed_precision import autocast
from mopref.recipes.mistakes import RecipeError, settings_at
from mopref.recipes.models import adapted_model, load_tokenizer
from mopref.recipes.parts import make_parts
from mopref.recipes.recipe import Recipe
from mopref.recipes.rows import KINDS
from mopref.recipes.run import Tell, run_objective, silent
from mopref.recipes.sources import load_records

__all__ = ["write_own_pairs"]

# What the loader of records knows lines by.
_SUFFIX = ".jsonl"


def write_own_pairs(recipe: Recipe, path: str | Path, gaps: Mapping[str, float], tell: Tell = silent) -> LabelCounts:
    """Have the base model answer every prompt of ``data.source`` twice, label the pairs, and write them as JSON lines.

    Each prompt is asked once, whichever side of a split it would be on. Answers are sampled as ``objective.options``
    says, in batches of ``evaluation.batch_size``, with the recipe's seed.

    Args:
        recipe: of an objective on rewards, "online-dpo" or "rlhf".
        path: a new file that ends in ``.jsonl``.
        gaps: for some objectives or all, the smallest difference of rewards that is a label.
        tell: says what is being done.

    Returns:
        The labels, counted.

    Raises:
        RecipeError: a setting that cannot be, such as an objective without rewards; it is named.
        ValueError: a gap that cannot be, prompts that cannot be answered, or pairs that are of no use.
        RewardError: a reward that fails, or is no finite number.
        OSError: nothing can be written there.
    """
    recipe = recipe.completed()
    target = _checked_target(path)
    if not KINDS[recipe.objective.name].takes_rewards:
        raise RecipeError(
            "objective.name",
            f"is {recipe.objective.name!r}, which has no rewards that could label answers: choose online-dpo, and give "
            "rewards for the objectives.",
        )
    with settings_at("gaps", []):
        checked_gaps(gaps, recipe.objectives)
    parts = make_parts(recipe, for_training=False)
    records = load_records(recipe)
    prompts = list({prompt_key(record["prompt"]): record["prompt"] for record in records}.values())
    tokenizer = load_tokenizer(recipe.model)
    settings = _rollouts(recipe, tokenizer)
    model = adapted_model(recipe.model, parts.adapter, parts.device)
    tell(f"Answering {len(prompts)} prompts twice, with {settings.sampling.max_new_tokens} tokens at most …")
    with autocast(parts.device, recipe.training.mixed_precision):
        pairs = on_policy_pairs(
            model,
            tokenizer,
            prompts,
            settings.reward_functions,
            settings.sampling,
            recipe.seed,
            gaps,
            recipe.evaluation.batch_size,
            max_prompt_length=recipe.data.max_prompt_length,
            on_long_prompt=recipe.data.on_long_prompt,
            progress=recipe.training.progress,
        )
    lines = [json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs]
    write_atomically(target, "".join(lines).encode("utf-8"))
    return label_counts(pairs, recipe.objectives)


def _rollouts(recipe: Recipe, tokenizer: Any) -> RolloutSettings:
    """The rewards, and how answers are sampled."""
    settings: RolloutSettings = run_objective(recipe, tokenizer).settings  # type: ignore[attr-defined]
    for name in ("engine", "truncation_penalty", "pull"):
        if recipe.objective.options.get(name):
            raise RecipeError(
                f"objective.options.{name}",
                ": pairs are sampled by the model itself and labelled by the rewards as they are, so leave it out.",
            )
    return settings


def _checked_target(path: str | Path) -> Path:
    """A path that a new file can have."""
    target = checked_path(path, "output")
    key, place = "output", "--"
    if target.suffix != _SUFFIX:
        raise RecipeError(key, f"is {str(path)!r}: pairs are JSON lines, so give a name that ends in {_SUFFIX}.", place)
    if os.path.lexists(target):
        raise RecipeError(key, f"is {str(path)!r}, which is there already: choose another file.", place)
    existing = next(part for part in target.absolute().parents if os.path.lexists(part))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise RecipeError(key, f"is {str(path)!r}: nothing can be written into {existing}; choose another.", place)
    return target
