"""Held-out figures of a run at given preferences: what is measured while it trains, and after it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from mopref._agreement import process_count
from mopref._arrays import Array
from mopref._precision import at_least_float32
from mopref.evaluation_mode import evaluation_mode
from mopref.front import Front
from mopref.llm.evaluation import (
    Figure,
    answer_front,
    figure_columns,
    loss_front,
    preference_front,
    prompt_units,
    reward_front,
    sample_answers,
    win_rates,
)
from mopref.llm.policy import Policy, Sampling
from mopref.mixed_precision import autocast
from mopref.recipes.rows import KINDS
from mopref.recipes.run import Run
from mopref.recipes.run_folder import VERSIONS, read_versions
from mopref.training.provenance import made_with

__all__ = ["base_losses", "check_prompts", "evenly", "held_out_front", "sampled_columns"]

_FRONTS = {"preferences": preference_front, "answers": answer_front, "losses": loss_front}


def held_out_front(
    run: Run, preferences: Tensor, rows: Sequence[Any], extra: Mapping[str, Any], progress: bool = False
) -> Front:
    """The front of a run at preferences ``(N, m)`` on these rows, with intervals as its recipe says.

    Args:
        run: the run.
        preferences: ``(N, m)``.
        rows: held-out rows.
        extra: more columns.
        progress: show progress.
    """
    recipe, evaluation = run.recipe, run.recipe.evaluation
    options: dict[str, Any] = {
        "batch_size": evaluation.batch_size,
        "mixed_precision": recipe.training.mixed_precision,
        "interval_level": evaluation.interval_level,
        "reference_point": evaluation.reference_point,
        "metadata": _metadata(run),
        "extra": extra,
        "progress": progress,
    }
    how, objective = KINDS[recipe.objective.name].front, run.objective
    if how == "rewards":
        settings = objective.settings  # type: ignore[attr-defined]
        return reward_front(run.model, settings, rows, preferences, seed=recipe.seed, **options)
    return _FRONTS[how](run.model, objective, rows, preferences, **options)  # type: ignore[operator]


def sampled_columns(
    run: Run,
    preferences: Tensor,
    prompts: Sequence[Any],
    with_judges: bool = True,
    progress: bool = False,
    model: nn.Module | None = None,
) -> dict[str, Array]:
    """Columns of answers that are sampled at preferences ``(N, m)``: KL, length and win rates, with intervals.

    Args:
        run: the run.
        preferences: ``(N, m)``.
        prompts: rows of ``Run.test_prompts``.
        with_judges: also compare them with the base model's, where the run has judges.
        progress: show progress.
        model: what answers in place of the run's model, such as another method's on the same base.

    Returns:
        ``kl`` (nats from the base model) and ``sampled_length`` (tokens), which the front of a run on rewards has of
        its own, and ``win_rate_<name>`` for each judge.
    """
    recipe, evaluation = run.recipe, run.recipe.evaluation
    is_measured = KINDS[recipe.objective.name].front == "rewards"
    judges = run.judges if with_judges else {}
    if not prompts or (is_measured and not judges):
        return {}
    sampling = Sampling(max_new_tokens=evaluation.max_new_tokens)
    options: dict[str, Any] = {"batch_size": evaluation.batch_size, "seed": recipe.seed, "progress": progress}
    with autocast(run.model.device, recipe.training.mixed_precision):
        answers = sample_answers(
            run.model if model is None else model,
            run.tokenizer,
            prompts,
            preferences,
            sampling,
            with_kl=not is_measured,
            **options,
        )
        base = sample_answers(run.model, run.tokenizer, prompts, None, sampling, **options) if judges else None
    figures = {} if is_measured else {"kl": Figure(answers.kl), "sampled_length": Figure(answers.lengths)}
    if base is not None:
        texts = [row["prompt"] for row in prompts]
        for name, judge in judges.items():
            rates = [win_rates(judge, texts, of_point, base.texts[0]) for of_point in answers.texts]
            figures[f"win_rate_{name}"] = Figure(torch.stack(rates))
    return figure_columns(figures, prompt_units(prompts), evaluation.interval_level, recipe.seed)


def base_losses(run: Run, rows: Sequence[Any], preferences: Tensor) -> list[float]:
    """The m losses of the base model, in evaluation mode and without gradients."""
    device = run.model.device
    at = preferences[:1].to(device, torch.get_default_dtype())
    with (
        run.model.disabled(),
        evaluation_mode(run.model),
        autocast(device, run.recipe.training.mixed_precision),
    ):
        losses = run.objective.mean_losses(run.model, rows, at, run.recipe.evaluation.batch_size)
    values: list[float] = at_least_float32(losses.detach()).cpu()[0].tolist()
    return values


def evenly(rows: Sequence[Any], count: int | None) -> list[Any]:
    """So many rows at most, evenly taken from all, in their order.

    Example:
        >>> evenly([0, 1, 2, 3, 4, 5], 3)
        [0, 2, 4]
    """
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[place * len(rows) // count] for place in range(count)]


def check_prompts(run: Run) -> None:
    """Refuse, before a training, prompts that could not be answered after it.

    Raises:
        ValueError: a prompt that is too long for the model with the longest answer behind it.
    """
    evaluation = run.recipe.evaluation
    sampling = Sampling(max_new_tokens=evaluation.max_new_tokens).for_tokenizer(run.tokenizer)
    count = max(evaluation.sampled_prompts, run.recipe.monitoring.sampled_prompts)
    prompts = evenly(run.test_prompts, count)
    if prompts:
        Policy(run.model, sampling).check_prompts(prompts)


def _metadata(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    metadata: dict[str, Any] = {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "model": recipe.model.name,
        "seed": recipe.seed,
        "scalarizer": repr(run.scalarizer),
        "objective": repr(run.objective),
        **made_with(process_count()),
    }
    if (run.folder / VERSIONS).is_file():
        metadata["records"] = read_versions(run.folder)["records"]
    if run.step is not None:
        metadata["step"] = run.step
    if recipe.evaluation.reference_point is not None:
        metadata["reference_point"] = list(recipe.evaluation.reference_point)
    return metadata
