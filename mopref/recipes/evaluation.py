"""Evaluate a run: its front on held-out data, and answers at every preference."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mopref._agreement import is_first_process, made_by_first
from mopref._atomic_writes import write_atomically
from mopref.argument_kinds import checks_arguments
from mopref.front import Front
from mopref.llm.policy import Answer
from mopref.recipes.answers import answer_entries, answers_at
from mopref.recipes.held_out import base_losses, evenly, held_out_front, sampled_columns
from mopref.recipes.mistakes import RunFolderError
from mopref.recipes.parts import make_parts
from mopref.recipes.recipe import EvaluationSettings
from mopref.recipes.rows import KINDS
from mopref.recipes.run import Run, Tell, silent
from mopref.recipes.run_folder import ANSWERS, FRONT
from mopref.training.sharding import has_sharded_base

__all__ = ["evaluate"]


@checks_arguments
def evaluate(
    run: Run,
    evaluation: EvaluationSettings | None = None,
    folder: str | Path | None = None,
    tell: Tell = silent,
    replace_front: bool = False,
) -> Front:
    """The front of a run on its held-out data; ``front.json``, ``.csv``, ``.png`` and ``answers.json`` are written.

    Every process of a run calls it. The first one measures and writes, and all have the front; where the base model is
    shared out among them (FSDP), all of them measure.

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
    place, tell = run.folder if folder is None else Path(folder), tell if is_first_process() else silent
    if has_sharded_base(run.model):
        return _evaluated(run, evaluation, place, tell, replace_front)
    return made_by_first(lambda: _evaluated(run, evaluation, place, tell, replace_front))


def _evaluated(run: Run, evaluation: EvaluationSettings | None, folder: Path, tell: Tell, replace_front: bool) -> Front:
    if not run.test_rows:
        raise RunFolderError(f"the run in {run.folder} was opened without its data: open it with with_data=True.")
    if (folder / FRONT).exists() and not replace_front:
        raise RunFolderError(f"{folder} holds a front already: choose another folder for this one.")
    run = run if evaluation is None else replace(run, recipe=replace(run.recipe, evaluation=evaluation).completed())
    preferences = make_parts(run.recipe, for_training=False).preferences
    answers = _answers(run, preferences, tell)
    if run.test_prompts and run.recipe.evaluation.sampled_prompts:
        tell("Sampling answers to held-out prompts at every preference …")
    front = _measured(run, preferences, answers, tell)
    if is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        _write(run, front, preferences, answers, folder)
    return front


def _answers(run: Run, preferences: Tensor, tell: Tell) -> list[list[Answer]]:
    evaluation = run.recipe.evaluation
    if not evaluation.prompts:
        return []
    tell(f"Answering {len(evaluation.prompts)} prompts at every preference …")
    limit, progress = evaluation.max_new_tokens, _shows_progress(run)
    return answers_at(run, evaluation.prompts, preferences, limit, progress)


def _measured(run: Run, preferences: Tensor, answers: Sequence[Sequence[Answer]], tell: Tell) -> Front:
    evaluation, progress = run.recipe.evaluation, _shows_progress(run)
    extra: dict[str, Any] = {}
    if answers and KINDS[run.recipe.objective.name].front != "rewards":
        lengths = [sum(one.num_tokens for one in of_point) / len(of_point) for of_point in answers]
        extra["mean_response_length"] = lengths
    prompts = evenly(run.test_prompts, evaluation.sampled_prompts)
    columns = sampled_columns(run, preferences, prompts, progress=progress)
    tell("Evaluating the held-out data at every preference …")
    front = held_out_front(run, preferences, run.test_rows, {**columns, **extra}, progress)
    if KINDS[run.recipe.objective.name].front != "rewards":
        front.metadata["base_losses"] = base_losses(run, run.test_rows, preferences)
    return front


def _shows_progress(run: Run) -> bool:
    return run.recipe.training.progress and is_first_process()


def _write(run: Run, front: Front, preferences: Tensor, answers: Sequence[Sequence[Answer]], folder: Path) -> None:
    for name in (FRONT, "front.csv"):
        front.save(folder / name)
    base = front.metadata.get("base_losses")
    what = "rewards" if KINDS[run.recipe.objective.name].front == "rewards" else "losses"
    title = f"One model, every balance: held-out {run.recipe.objective.name.upper()} {what}"
    front.plot(folder / "front.png", reference_values=None if base is None else {"base model": base}, title=title)
    if answers:
        prompts = run.recipe.evaluation.prompts
        entries = answer_entries(run.recipe.objectives, preferences, prompts, answers)
        text = json.dumps(entries, indent=2, ensure_ascii=False)
        write_atomically(folder / ANSWERS, (text + "\n").encode())
