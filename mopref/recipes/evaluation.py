"""Evaluate a run: its front on held-out data, and answers at every preference."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mopref._precision import at_least_float32
from mopref.evaluation_mode import evaluation_mode
from mopref.front import Front
from mopref.llm.evaluation import answer_front, preference_front, reward_front
from mopref.llm.policy import Answer, answer_prompts
from mopref.mixed_precision import autocast, precision_name
from mopref.recipes.mistakes import RunFolderError
from mopref.recipes.parts import make_parts
from mopref.recipes.recipe import EvaluationSettings
from mopref.recipes.rows import KINDS
from mopref.recipes.run import Run, Tell, silent
from mopref.recipes.run_folder import ANSWERS, FRONT

__all__ = ["answers_at", "evaluate"]


def evaluate(
    run: Run,
    evaluation: EvaluationSettings | None = None,
    folder: str | Path | None = None,
    tell: Tell = silent,
    replace_front: bool = False,
) -> Front:
    """The front of a run on its held-out data; ``front.json``, ``.csv``, ``.png`` and ``answers.json`` are written.

    Args:
        run: trained, or opened with its data.
        evaluation: what is measured where; by default as the recipe says.
        folder: where the files go; the run's by default.
        tell: says what is being done.
        replace_front: write over a front that is there, of the same run before it was resumed.

    Raises:
        RecipeError: settings that cannot be.
        RunFolderError: a run without data, or a folder that holds a front already.
    """
    folder = run.folder if folder is None else Path(folder)
    if not run.test_rows:
        raise RunFolderError(f"the run in {run.folder} was opened without its data: open it with with_data=True.")
    if (folder / FRONT).exists() and not replace_front:
        raise RunFolderError(f"{folder} holds a front already: choose another folder for this one.")
    run = run if evaluation is None else replace(run, recipe=replace(run.recipe, evaluation=evaluation).completed())
    preferences = make_parts(run.recipe).preferences
    answers = _answers(run, preferences, tell)
    tell("Evaluating the held-out data at every preference …")
    front = _measured(run, preferences, answers)
    folder.mkdir(parents=True, exist_ok=True)
    _write(run, front, preferences, answers, folder)
    return front


def answers_at(
    run: Run, prompts: Sequence[Any], preferences: Tensor, max_new_tokens: int, progress: bool = False
) -> list[list[Answer]]:
    """Greedy answers to every prompt at each preference ``(N, m)``: a list for each preference."""
    spread = preferences.repeat_interleave(len(prompts), dim=0)
    answers = answer_prompts(
        run.model,
        run.tokenizer,
        list(prompts) * len(preferences),
        spread,
        max_new_tokens=max_new_tokens,
        progress=progress,
    )
    return [answers[start : start + len(prompts)] for start in range(0, len(answers), len(prompts))]


def _answers(run: Run, preferences: Tensor, tell: Tell) -> list[list[Answer]]:
    evaluation = run.recipe.evaluation
    if not evaluation.prompts:
        return []
    tell(f"Answering {len(evaluation.prompts)} prompts at every preference …")
    limit, progress = evaluation.max_new_tokens, run.recipe.training.progress
    return answers_at(run, evaluation.prompts, preferences, limit, progress)


def _measured(run: Run, preferences: Tensor, answers: Sequence[Sequence[Answer]]) -> Front:
    recipe, evaluation = run.recipe, run.recipe.evaluation
    how = KINDS[recipe.objective.name].front
    extra: dict[str, Any] = {}
    if answers:
        lengths = [sum(one.num_tokens for one in of_point) / len(of_point) for of_point in answers]
        extra["mean_response_length"] = lengths
    metadata = _metadata(run)
    options: dict[str, Any] = {"batch_size": evaluation.batch_size, "mixed_precision": recipe.training.mixed_precision}
    if how == "rewards":
        progress = recipe.training.progress
        rewards: Any = run.objective
        options |= {"metadata": metadata, "seed": recipe.seed, "progress": progress}
        return reward_front(run.model, rewards.settings, run.test_rows, preferences, **options)
    metadata["base_losses"] = _base_losses(run, preferences)
    if how in ("preferences", "answers"):
        labelled: Any = run.objective
        options |= {"extra": extra, "metadata": metadata, "progress": recipe.training.progress}
        front = preference_front if how == "preferences" else answer_front
        return front(run.model, labelled, run.test_rows, preferences, **options)
    return Front(
        preferences=preferences.numpy(),
        values=_losses(run, preferences).numpy(),
        names=run.objective.names,
        extra=extra,
        metadata={"precision": precision_name(run.model, recipe.training.mixed_precision), **metadata},
        convention=run.model.preference_convention,
    )


def _metadata(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    metadata: dict[str, Any] = {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "model": recipe.model.name,
        "seed": recipe.seed,
        "scalarizer": repr(run.scalarizer),
        "objective": repr(run.objective),
        "precision": precision_name(run.model, recipe.training.mixed_precision),
    }
    if recipe.evaluation.reference_point is not None:
        metadata["reference_point"] = list(recipe.evaluation.reference_point)
    return metadata


def _losses(run: Run, preferences: Tensor) -> Tensor:
    """The m losses at each preference, in evaluation mode and without gradients."""
    device = run.model.device
    at = preferences.to(device, torch.get_default_dtype())
    with evaluation_mode(run.model), autocast(device, run.recipe.training.mixed_precision):
        losses = run.objective.mean_losses(run.model, run.test_rows, at, run.recipe.evaluation.batch_size)
    return at_least_float32(losses.detach()).cpu()


def _base_losses(run: Run, preferences: Tensor) -> list[float]:
    with run.model.disabled():
        values: list[float] = _losses(run, preferences[:1])[0].tolist()
    return values


def _write(run: Run, front: Front, preferences: Tensor, answers: Sequence[Sequence[Answer]], folder: Path) -> None:
    for name in (FRONT, "front.csv"):
        front.save(folder / name)
    base = front.metadata.get("base_losses")
    what = "rewards" if KINDS[run.recipe.objective.name].front == "rewards" else "losses"
    title = f"One model, every balance: held-out {run.recipe.objective.name.upper()} {what}"
    front.plot(folder / "front.png", reference_values=None if base is None else {"base model": base}, title=title)
    if answers:
        entries = list(_answer_entries(run, preferences, answers))
        text = json.dumps(entries, indent=2, ensure_ascii=False)
        (folder / ANSWERS).write_text(text + "\n", encoding="utf-8")


def _answer_entries(run: Run, preferences: Tensor, answers: Sequence[Sequence[Answer]]) -> Any:
    for preference, of_point in zip(preferences.tolist(), answers, strict=True):
        weights: Mapping[str, float] = dict(zip(run.recipe.objectives, preference, strict=True))
        for prompt, answer in zip(run.recipe.evaluation.prompts, of_point, strict=True):
            yield {"preference": weights, "prompt": prompt, "answer": answer.text, "tokens": answer.num_tokens}
