"""Held-out evaluations while a run trains, as a file of one line each: they go on where a resumed run goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mopref._agreement import ended_together, is_first_process
from mopref._atomic_writes import write_atomically
from mopref.front import Front
from mopref.preferences import validate_preferences
from mopref.recipes.answers import answer_entries, answers_at
from mopref.recipes.held_out import evenly, held_out_front, sampled_columns
from mopref.recipes.mistakes import RunFolderError
from mopref.recipes.run import Run, Tell
from mopref.recipes.run_folder import BEST, EVALUATIONS
from mopref.training import EvaluationCallback
from mopref.training.callbacks import RunningTrainer
from mopref.training.evaluation_callback import point_label

__all__ = ["Monitoring", "read_evaluations"]

# Of evaluation.prompts, so many are answered while a training runs.
_PROMPTS = 2


class Monitoring(EvaluationCallback):
    """Evaluate a run as its recipe's ``monitoring`` says: at every corner, and in the middle between all of them.

    Args:
        run: the run that is trained.
        tell: says what is found.
    """

    def __init__(self, run: Run, tell: Tell) -> None:
        settings, count = run.recipe.monitoring, len(run.recipe.objectives)
        assert settings.evaluation_every is not None
        super().__init__(
            settings.evaluation_every,
            run.recipe.evaluation.reference_point,
            settings.patience,
            run.folder / BEST if settings.keep_best else None,
        )
        self.run, self.tell, self.path = run, tell, run.folder / EVALUATIONS
        places = torch.cat([torch.eye(count), torch.full((1, count), 1 / count)])
        self.preferences = validate_preferences(places, run.recipe.objectives)
        self.rows = evenly(run.test_rows, settings.rows)
        self.prompts = evenly(run.test_prompts, settings.sampled_prompts)

    def on_train_begin(self, trainer: RunningTrainer) -> None:
        """Write the evaluations that a checkpoint held, up to the step that the training begins at, and go on."""
        self.drop_later_records(trainer)
        with ended_together():
            if is_first_process():
                write_atomically(self.path, "".join(map(_line, self.records)).encode())
        super().on_train_begin(trainer)

    def measure(self, trainer: RunningTrainer) -> Front:
        """Losses, accuracies and margins; KL and lengths of sampled answers where that is asked for."""
        columns = sampled_columns(self.run, self.preferences, self.prompts, with_judges=False)
        return held_out_front(self.run, self.preferences, self.rows, columns)

    def recorded(self, trainer: RunningTrainer, record: dict[str, Any]) -> None:
        """Write the record, with answers where they are asked for, which trackers get as text."""
        if self.run.recipe.monitoring.answers:
            record["answers"] = self._answers(trainer)
        if is_first_process():
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))

    def _answers(self, trainer: RunningTrainer) -> list[dict[str, Any]]:
        evaluation = self.run.recipe.evaluation
        prompts = evaluation.prompts[:_PROMPTS]
        answers = answers_at(self.run, prompts, self.preferences, evaluation.max_new_tokens)
        entries = answer_entries(self.run.recipe.objectives, self.preferences, prompts, answers)
        for place in range(len(self.preferences)):
            label = point_label(self.run.recipe.objectives, self.preferences[place].tolist())
            texts = {
                f"answers/{label}/{number + 1}": f"{prompt}\n\n{entries[place * len(prompts) + number]['answer']}"
                for number, prompt in enumerate(prompts)
            }
            trainer.accelerator.log(texts, step=trainer.step)
        return entries


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """The records of a run's evaluations; a last line that was cut while it was written is left out.

    Raises:
        RunFolderError: a line that is no record.
    """
    records: list[dict[str, Any]] = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not {"step", "hypervolume", "points"} <= record.keys():
                raise ValueError("it is no record of an evaluation")
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise RunFolderError(
                f"{path}, line {number} cannot be read ({error}): the run's folder is damaged."
            ) from error
        records.append(record)
    return records


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(dict(record), ensure_ascii=False) + "\n"
