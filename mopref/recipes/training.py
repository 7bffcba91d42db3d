"""Train what a recipe describes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mopref._agreement import (
    ended_together,
    gathered_objects,
    is_first_process,
    join_processes,
    made_by_first,
    made_in_turns,
    process_count,
)
from mopref._atomic_writes import remove_leftovers, write_atomically
from mopref.argument_kinds import checks_arguments
from mopref.conditioning import PreferenceModel
from mopref.llm.evaluation import RewardJudge
from mopref.objective import Objective
from mopref.recipes.data_statistics import DataStatistics, data_statistics, statistics_tree
from mopref.recipes.held_out import check_prompts, evenly
from mopref.recipes.log_file import LogFile
from mopref.recipes.mistakes import RecipeError, settings_at
from mopref.recipes.models import adapted_model, load_tokenizer
from mopref.recipes.monitoring import Monitoring
from mopref.recipes.parts import Parts, make_parts, trainer_config
from mopref.recipes.reading import load_recipe, save_recipe
from mopref.recipes.recipe import Recipe
from mopref.recipes.reward_parts import make_judges
from mopref.recipes.rows import (
    RowKind,
    check_every_objective,
    check_held_out,
    precomputed,
    prompt_rows,
    summary,
    tokenized,
)
from mopref.recipes.run import Run, Tell, read_data, run_objective, silent
from mopref.recipes.run_folder import (
    ADAPTER,
    DATA,
    LOG,
    RECIPE,
    VERSIONS,
    check_new_folder,
    check_same_recipe,
    check_same_records,
    check_unfinished,
    claim_folder,
    fingerprint,
    located,
    newest_checkpoint,
    versions,
)
from mopref.recipes.sources import new_reports
from mopref.training import ParetoTrainer, TrainerCallback
from mopref.training.checkpoints import checkpoints_in
from mopref.training.memory import memory_estimate
from mopref.training.optimizers import check_optimizer
from mopref.training.sharding import has_sharded_base, save_once
from mopref.training.shares import make_batches, step_layout

__all__ = ["Preparation", "prepare", "train"]

_SIDES = {"train": "to train on", "held out": "to evaluate on"}


@dataclass(frozen=True)
class Preparation:
    """Everything that a training begins with.

    Args:
        recipe: complete.
        parts: made of it.
        model: with fresh adapters.
        tokenizer: the model's.
        objective: what is minimised.
        train_rows: rows to train on.
        test_rows: rows to evaluate on.
        records: the fingerprint of the records that the rows were made of.
        test_prompts: the prompts of the rows to evaluate on, each once.
        judges: what sampled answers are judged by, by the objectives' names.
        statistics: what the records and rows hold.
    """

    recipe: Recipe
    parts: Parts
    model: PreferenceModel
    tokenizer: Any
    objective: Objective
    train_rows: list[dict[str, Any]]
    test_rows: list[dict[str, Any]]
    records: str
    statistics: DataStatistics
    test_prompts: list[dict[str, Any]]
    judges: Mapping[str, RewardJudge]

    def precomputed(self, tell: Tell = silent) -> "Preparation":
        """The same, with what is the same at every step in its rows; told to ``tell``, as it may take long."""
        if not hasattr(self.objective, "precompute"):
            return self
        tell("Computing what is the same at every step, once …")
        train_rows, test_rows = (
            precomputed(self.parts.kind, self.objective, self.model, rows, self.recipe.training, tell)
            for rows in (self.train_rows, self.test_rows)
        )
        return replace(self, train_rows=train_rows, test_rows=test_rows)

    def run(self) -> Run:
        """The run, before it is trained."""
        recipe, folder, parts = self.recipe, Path(self.recipe.output), self.parts
        known = (recipe, folder, self.model, self.tokenizer, self.objective, parts.scalarizer, self.test_rows)
        return Run(*known, test_prompts=self.test_prompts, judges=self.judges)

    def trainer(self, callbacks: tuple[TrainerCallback, ...] = ()) -> ParetoTrainer:
        """The trainer, which writes nothing before it trains."""
        others = {"seed": self.recipe.seed, "cpu": self.parts.device.type == "cpu", "output_dir": self.recipe.output}
        config = trainer_config(self.recipe.training, len(self.train_rows), **others)
        return ParetoTrainer(
            self.model,
            self.objective,
            self.parts.scalarizer,
            sampler=self.parts.sampler,
            train_data=self.train_rows,
            config=config,
            callbacks=callbacks,
        )


def prepare(recipe: Recipe, tell: Tell = silent, precompute: bool = True) -> Preparation:
    """Parts, data, model and rows, in the order of what they cost; nothing is written.

    Args:
        recipe: the settings.
        tell: says what is being done.
        precompute: whether the rows have what is the same at every step; else ``.precomputed()`` gives them that.

    Raises:
        RecipeError: a setting that cannot be; it is named.
        FileNotFoundError, ValueError: data that are not there, or cannot be trained on; row and column are named.
    """
    recipe = recipe.completed()
    parts = make_parts(recipe)
    with settings_at("training", ["optimizer"]):
        # Not among the parts: a run may be opened where its optimiser does not work.
        check_optimizer(recipe.training.optimizer, parts.device)
    reports = new_reports(recipe)
    train, test = read_data(recipe, parts, reports)
    for side, records in (("train", train), ("held out", test)):
        tell(f"{side}: {summary(parts.kind, records, recipe.objectives)}")
    tokenizer = load_tokenizer(recipe.model)
    train_rows, test_rows = (
        _rows_of(side, parts.kind, tokenizer, part, recipe) for side, part in (("train", train), ("held out", test))
    )
    sides = {"train": (train, train_rows), "held out": (test, test_rows)}
    statistics = data_statistics(parts.kind, sides, recipe.objectives, recipe.data, reports)
    if statistics.leaks:
        tell(f"warning: {statistics.leaks} of {len(test)} held-out records have a prompt of the training data.")
    objective = run_objective(recipe, tokenizer)
    _check_batches(recipe, objective, train_rows)
    check_held_out(objective, test_rows)
    with settings_at("monitoring.rows", []):
        check_held_out(objective, evenly(test_rows, recipe.monitoring.rows))
    prompts, judges = prompt_rows(tokenizer, test, recipe.data), make_judges(recipe, tokenizer)
    model = adapted_model(recipe.model, parts.adapter, parts.device)
    of_records = fingerprint([*train, *test])
    rows = (train_rows, test_rows)
    ready = Preparation(recipe, parts, model, tokenizer, objective, *rows, of_records, statistics, prompts, judges)
    with settings_at("evaluation.max_new_tokens", []):
        check_prompts(ready.run())
    return ready.precomputed(tell) if precompute else ready


def _rows_of(side: str, kind: RowKind, tokenizer: Any, records: list[dict[str, Any]], recipe: Recipe) -> Any:
    """The rows of one side; a row that is refused is told with its side, since it is counted after the split."""
    try:
        return tokenized(kind, tokenizer, records, recipe.objectives, recipe.data)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError("data", f": of the rows {_SIDES[side]}, counted after the split, {error}") from error


def _check_batches(recipe: Recipe, objective: Objective, rows: list[dict[str, Any]]) -> None:
    """Refuse, before a model is loaded, batches that the rows cannot fill."""
    labelled, training = objective.labelled(rows), recipe.training
    if labelled is not None:
        with settings_at("data", []):
            check_every_objective(objective, labelled, "the rows to train on")
        with settings_at("training.batch_size", []):
            config = trainer_config(training, len(rows))
            make_batches(step_layout(config, objective, True, process_count()), labelled)


@checks_arguments
def train(recipe: Recipe, resume: bool = False, tell: Tell = silent) -> Run:
    """Train a model for every balance, and write the run's folder.

    Whatever can be refused is refused before anything is written. The folder then holds the complete recipe, the
    versions of what it was made with, what its data hold, the log as it grows, checkpoints where they are asked for,
    and at the end the adapter.

    Of the processes that a launcher starts (``torchrun``, ``accelerate launch``) each calls it, and an error on one
    ends all. The first of each machine prepares data and model before the others, the first of all writes and tells.

    Args:
        recipe: the settings.
        resume: go on with the run in the recipe's folder from its newest checkpoint.
        tell: says what is being done.

    Raises:
        RecipeError: a setting that cannot be, or a folder that holds something; the setting is named.
        RunFolderError: a run that cannot be resumed.
        FileNotFoundError, ValueError: data that are not there, or cannot be trained on; row and column are named.
        ElsewhereError: another process of the run has an error.
    """
    join_processes()
    tell = tell if is_first_process() else silent
    recipe = located(recipe.completed())
    folder = Path(recipe.output)
    _check_agreed("", "the recipe is another one", asdict(recipe))
    checkpoint = made_by_first(lambda: _checked_folder(folder, recipe, resume))
    ready = made_in_turns(lambda: prepare(recipe, tell))
    _check_agreed("data", ": the records are others", ready.records)
    if resume:
        with ended_together():
            check_same_records(folder, ready.records)
    watching: list[TrainerCallback] = [LogFile(folder / LOG)]
    if recipe.monitoring.evaluation_every is not None:
        watching.append(monitoring := Monitoring(ready.run(), tell))
    begin = _Begin(recipe, folder, {VERSIONS: versions(ready.records), DATA: statistics_tree(ready.statistics)})
    trainer = ready.trainer((begin, *watching) if resume else tuple(watching))
    with ended_together():
        if resume:
            check_unfinished(folder, trainer.config.steps)
        elif is_first_process():
            claim_folder(folder)
    if not resume:
        begin.on_train_begin(trainer)
    shared = (process_count(), has_sharded_base(ready.model))
    tell(f"Memory: about {memory_estimate(ready.model, trainer.config.optimizer, *shared)}.")
    _train(trainer, checkpoint, recipe, tell)
    step = trainer.step
    if recipe.monitoring.keep_best:
        step = _kept_step(monitoring, trainer, tell)
    save_once(ready.model, folder / ADAPTER)
    made_with = {**versions(ready.records), "steps": trainer.step, "adapter_step": step}
    made_by_first(lambda: _write_json(made_with, folder / VERSIONS))
    return replace(ready.run(), scalarizer=trainer.scalarizer, history=trainer.history, step=step)


def _check_agreed(key: str, problem: str, own: Any) -> None:
    """Refuse processes of a run that do not have the same: each would train, resume or find another one."""
    first = gathered_objects(own)[0]
    with ended_together():
        if own != first:
            raise RecipeError(key, f"{problem} than on the first process: give all of them the same files and flags.")


def _checked_folder(folder: Path, recipe: Recipe, resume: bool) -> Path | None:
    """The checkpoint that a run goes on from; ``None`` of a new one, whose folder is free."""
    if not resume:
        check_new_folder(folder)
        return None
    checkpoint = newest_checkpoint(folder)
    check_same_recipe(folder, recipe, load_recipe(folder / RECIPE, for_training=False))
    return checkpoint


class _Begin(TrainerCallback):
    """Write what a run is made of, once a checkpoint that it goes on from has been read."""

    def __init__(self, recipe: Recipe, folder: Path, trees: Mapping[str, Any]) -> None:
        self.recipe, self.folder, self.trees = recipe, folder, trees

    def on_train_begin(self, trainer: Any) -> None:
        """Write recipe, versions and data statistics."""
        made_by_first(self._write)

    def _write(self) -> None:
        # The folder is this run's alone: whatever a killed one left half written.
        remove_leftovers(self.folder, "")
        save_recipe(self.recipe, self.folder / RECIPE)
        for name, tree in self.trees.items():
            _write_json(tree, self.folder / name)


def _write_json(tree: Any, path: Path) -> None:
    write_atomically(path, (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode())


def _train(trainer: ParetoTrainer, checkpoint: Path | None, recipe: Recipe, tell: Tell) -> None:
    """Train, and say how to go on where that is interrupted."""
    if checkpoint is not None:
        tell(f"Going on from {checkpoint}, or the newest before it that is whole.")
    try:
        # A newest one that is damaged is passed over.
        trainer.train(resume_from=None if checkpoint is None else "latest")
    except KeyboardInterrupt:
        how = "nothing can be resumed, since there is no checkpoint yet (training.checkpoint_every)"
        if saved := checkpoints_in(Path(recipe.output)):
            how = f"resume it with --resume, from step {saved[0].step}"
        tell(f"Interrupted at step {trainer.step} of {trainer.config.steps}; the run is in {recipe.output}: {how}.")
        raise


def _kept_step(monitoring: Monitoring, trainer: ParetoTrainer, tell: Tell) -> int:
    """Put back the adapter of the best evaluation; the step that it is of."""
    best = monitoring.best
    assert best is not None
    assert monitoring.best_folder is not None
    if best["step"] != trainer.step:
        tell(f"The hypervolume was largest at step {best['step']} ({best['hypervolume']:.4f}): its adapter is kept.")
        monitoring.run.model.restore(monitoring.best_folder)
    return int(best["step"])
