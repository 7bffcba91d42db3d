"""What a comparison begins with: refusals that only model and data allow, and what tells another model or data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mopref._atomic_writes import write_atomically
from mopref.baselines import PromptWriter, text_writer
from mopref.baselines.activations import checked_block
from mopref.llm.data.kept_tables import lists_digest
from mopref.llm.policy import Policy
from mopref.llm.policy.reference_cache import base_digest
from mopref.recipes.method_plan import MethodRecipe
from mopref.recipes.mistakes import RecipeError, RunFolderError, settings_at
from mopref.recipes.training import Preparation

__all__ = ["beginning_of", "check_beginning", "check_methods", "content_of", "prompt_writer", "write_beginning"]

_BEGINNING = "beginning.json"


def prompt_writer(tokenizer: Any, recipe: MethodRecipe) -> PromptWriter | None:
    """What writes λ into prompts; ``None`` where no method of the recipe needs it.

    Args:
        tokenizer: the model's.
        recipe: the settings, of which the methods and the objectives' names count.

    Raises:
        RecipeError: a tokenizer by which no prompt can say λ.
    """
    if "prompt" not in recipe.comparison.methods:
        return None
    with settings_at("comparison.methods", []):
        return text_writer(tokenizer, recipe.objectives)


def check_methods(ready: Preparation, recipe: MethodRecipe, writer: PromptWriter | None) -> None:
    """Refuse what only the model, the data or the preferences tell, before hours of training of other methods."""
    comparison = recipe.comparison
    if "activation" in comparison.methods and comparison.activation_block is not None:
        with settings_at("comparison.activation_block", []):
            checked_block(ready.model, comparison.activation_block)
    if "shuffled" in comparison.methods and len(ready.parts.preferences) < 2:
        raise RecipeError(
            "comparison.methods",
            "hold 'shuffled', and evaluation has a single preference, for which there is no other: give more "
            "preferences, or leave it out.",
        )
    if writer is not None:
        with settings_at("comparison.methods", []):
            _check_prompts(ready, writer)


def _check_prompts(ready: Preparation, writer: PromptWriter) -> None:
    """Refuse rows that no longer fit into the model with λ in their prompt."""
    # Weights of other values have the same number of tokens but for a few.
    more = max(len(writer.encode(row)) for row in ready.parts.preferences.tolist())
    policy, evaluation = Policy(ready.model), ready.recipe.evaluation
    for rows, what in ((ready.train_rows, "training row"), (ready.test_rows, "held-out row")):
        longest = [len(row["prompt_ids"]) + max(len(row[f"response_{k}_ids"]) for k in range(2)) for row in rows]
        policy.check_lengths([more + own for own in longest], f"with λ in its prompt, {what}")
    if evaluation.sampled_prompts:
        prompts = [more + len(row["prompt_ids"]) for row in ready.test_prompts]
        policy.check_lengths(prompts, "with λ in it, prompt", evaluation.max_new_tokens)


def beginning_of(ready: Preparation) -> dict[str, str]:
    """What settings do not say: the data, the weights behind the model's name, and the tokens of the rows.

    Weights whose content cannot be read are known by the model's name.
    """
    columns = ("prompt_ids", "response_0_ids", "response_1_ids")
    tokens = " ".join(lists_digest(rows, columns) for rows in (ready.train_rows, ready.test_rows))
    weights = base_digest(ready.model.base_model)
    named = f"those of {ready.recipe.model.name}" if weights is None else weights
    return {"records": ready.records, "weights": named, "tokens": tokens}


def content_of(beginning: Mapping[str, str]) -> str:
    """What tells data, weights and tokens of other content apart, wherever their files lie."""
    return json.dumps(dict(beginning), sort_keys=True)


def check_beginning(folder: Path, model: str, beginning: Mapping[str, str]) -> None:
    """Refuse to go on with another model under the same name, whose figures would stand beside the first one's.

    Args:
        folder: that has cells and trainings in it, or in folders of its own, such as those of folds.
        model: the name that the recipe has.
        beginning: of what is to be gone on with, or a part of it.

    Raises:
        RecipeError: other weights or other tokens than those that were begun with.
        RunFolderError: other data, or a record of the beginning that cannot be read.
    """
    path = folder / _BEGINNING
    if not path.is_file() or not any(True for made in ("cells/*", "runs/*/*") for _ in folder.rglob(made)):
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        told = {key: earlier[key] for key in beginning}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({error!r}): delete it, and what lies beside it is known by its own marks."
        ) from error
    if told.get("records") != beginning.get("records"):
        raise RunFolderError(
            f"{folder} was made with other data than this comparison's: choose another output, or put them back as "
            "they were."
        )
    for key, what in (("weights", "has other weights"), ("tokens", "makes other tokens of the data")):
        if told.get(key) != beginning.get(key):
            raise RecipeError(
                "model.name",
                f"is {model!r}, which {what} than when the comparison in {folder} was begun: put the model back as it "
                "was, or choose another output.",
            )


def write_beginning(folder: Path, beginning: Mapping[str, str]) -> None:
    """Write what a comparison is begun with into its folder."""
    write_atomically(folder / _BEGINNING, json.dumps(beginning, indent=1).encode())
