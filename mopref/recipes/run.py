"""A run: what was trained, where it is, and what it is evaluated on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from mopref.argument_kinds import checked_fields, checks_arguments
from mopref.conditioning import PreferenceModel
from mopref.llm.data import LoadReport, split_by_prompt
from mopref.llm.evaluation import RewardJudge
from mopref.objective import Objective
from mopref.recipes.mistakes import RecipeError, settings_at
from mopref.recipes.models import load_tokenizer, model_with_adapter
from mopref.recipes.parts import Parts, make_objective, make_parts
from mopref.recipes.reading import load_recipe
from mopref.recipes.recipe import Recipe
from mopref.recipes.reward_parts import make_judges, make_rewards
from mopref.recipes.rows import precomputed, prompt_rows, tokenized, validated
from mopref.recipes.run_folder import ADAPTER, RECIPE, check_finished, check_same_records, fingerprint, read_versions
from mopref.recipes.sources import load_records

__all__ = ["Run", "Tell", "open_run", "read_data", "run_objective", "silent"]

# Says in a line what is being done.
Tell: TypeAlias = Callable[[str], None]


def silent(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Run:
    """A trained run.

    Args:
        recipe: its settings, complete.
        folder: its folder.
        model: the model with its adapters.
        tokenizer: the model's.
        objective: what was minimised.
        scalarizer: what made one loss of them.
        test_rows: the rows to evaluate on; nothing where a run was opened without its data.
        history: the entries of its log.
        test_prompts: the prompts of these rows, each once, as rows with ``prompt`` and ``prompt_ids``.
        judges: what sampled answers are judged by, by the objectives' names.
        step: the step that the adapter is of; ``None`` where that was not recorded.
    """

    recipe: Recipe
    folder: Path
    model: PreferenceModel
    tokenizer: Any
    objective: Objective
    scalarizer: Any
    test_rows: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    test_prompts: list[dict[str, Any]] = field(default_factory=list)
    judges: Mapping[str, RewardJudge] = field(default_factory=dict)
    step: int | None = None

    def __post_init__(self) -> None:
        """Refuse fields of another kind."""
        checked_fields(self)


def read_data(
    recipe: Recipe, parts: Parts, reports: Mapping[str, LoadReport] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records to train and to evaluate on, checked; ``reports``, of ``new_reports``, are filled by the loader.

    Raises:
        FileNotFoundError, ValueError: as the loader and the check of the records do.
    """
    reports = reports or {}
    records = load_records(recipe, report=reports.get("train", reports.get("all")))
    # Before a split, so that a row that is refused is counted as in its source.
    with settings_at("data.source", []):
        validated(parts.kind, records, recipe.objectives)
    if recipe.data.has_test_data:
        test = load_records(recipe, test=True, report=reports.get("held out"))
        with settings_at("data.test_source" if recipe.data.test_source is not None else "data.test_options", []):
            validated(parts.kind, test, recipe.objectives)
        return records, test
    assert recipe.data.test_fraction is not None
    with settings_at("data", ["test_fraction"]):
        return split_by_prompt(records, recipe.data.test_fraction, seed=recipe.seed)


def run_objective(recipe: Recipe, tokenizer: Any) -> Objective:
    """The objective, with its rewards where it has any."""
    rewards = make_rewards(recipe) if recipe.rewards else None
    return make_objective(recipe, tokenizer, rewards)


@checks_arguments
def open_run(folder: str | Path, with_data: bool = False) -> Run:
    """A run from its folder, with the model that was trained.

    Args:
        folder: of a finished run.
        with_data: also read the data, for an evaluation.

    Raises:
        RunFolderError: the folder holds no finished run, or its data have changed since it was trained.
        RecipeError: its recipe, or what that names, is not there any more.
    """
    folder = Path(folder)
    check_finished(folder)
    recipe = load_recipe(folder / RECIPE, for_training=False)
    parts = make_parts(recipe, for_training=False)
    train, records = read_data(recipe, parts) if with_data else ([], [])
    if with_data:
        check_same_records(folder, fingerprint([*train, *records]))
    try:
        tokenizer = load_tokenizer(recipe.model)
        model = model_with_adapter(recipe.model, folder / ADAPTER, parts.device)
    except RecipeError as error:
        # Where it can be corrected.
        raise RecipeError(error.key, error.problem, error.place or f"{folder / RECIPE}, ") from error
    objective = run_objective(recipe, tokenizer)
    run = Run(recipe, folder, model, tokenizer, objective, parts.scalarizer, step=_adapter_step(folder))
    if not with_data:
        return run
    rows = tokenized(parts.kind, tokenizer, records, recipe.objectives, recipe.data)
    rows = precomputed(parts.kind, objective, model, rows, recipe.training, silent)
    prompts = prompt_rows(tokenizer, records, recipe.data)
    return replace(run, test_rows=rows, test_prompts=prompts, judges=make_judges(recipe, tokenizer))


def _adapter_step(folder: Path) -> int | None:
    step = read_versions(folder).get("adapter_step")
    return step if isinstance(step, int) else None
