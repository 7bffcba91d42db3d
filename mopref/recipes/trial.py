"""A dry run: everything is loaded and one forward is run, so that what would fail fails now; nothing is written."""

import time
from pathlib import Path

import torch
from accelerate.utils import send_to_device

from mopref.mixed_precision import autocast
from mopref.recipes.recipe import Recipe
from mopref.recipes.run import Tell, silent
from mopref.recipes.run_folder import check_new_folder
from mopref.recipes.training import Preparation, prepare
from mopref.training.config import TrainerConfig
from mopref.training.memory import memory_estimate
from mopref.training.shares import Draws, make_batches, step_layout

__all__ = ["try_out"]

# What a step takes over a forward: the backward pass, which takes about twice as long.
_STEP_OVER_FORWARD = 3.0


def try_out(recipe: Recipe, tell: Tell = silent) -> str:
    """Load everything, run one batch forward, and say how long and how large the training would be.

    Args:
        recipe: the settings.
        tell: says what is being done.

    Returns:
        Lines of text.

    Raises:
        RecipeError: a setting that cannot be; it is named.
        FileNotFoundError, ValueError: data that are not there, or cannot be trained on.
    """
    recipe = recipe.completed()
    check_new_folder(Path(recipe.output))
    ready = prepare(recipe, tell)
    trainer = ready.trainer()
    tell("Running one batch …")
    seconds = _forward_seconds(ready, trainer.config)
    forwards = trainer.config.steps * trainer.config.gradient_accumulation_steps
    parameters = [parameter for parameter in ready.model.parameters() if parameter.requires_grad]
    trained = sum(parameter.numel() for parameter in parameters)
    lines = [
        f"rows        {len(ready.train_rows)} to train on, {len(ready.test_rows)} to evaluate on",
        f"steps       {trainer.config.steps}, each of {trainer.config.gradient_accumulation_steps} × "
        f"{trainer.config.batch_size} rows",
        f"parameters  {trained:,} trained",
        f"memory      about {memory_estimate(ready.model, trainer.config.optimizer)}{_peak()}",
        f"time        about {_duration(seconds * forwards * _STEP_OVER_FORWARD)} to train ({ready.model.device})",
        "Nothing was written.",
    ]
    return "\n".join(lines)


def _forward_seconds(ready: Preparation, config: TrainerConfig) -> float:
    """The time of one batch; for an objective that samples its responses, of the sampling and one batch of them."""
    device, objective = ready.model.device, ready.objective
    labelled, layout = objective.labelled(ready.train_rows), step_layout(config, objective, True)
    if labelled is None:
        labelled = torch.ones(len(ready.train_rows), len(objective.names), dtype=torch.bool)
    drawn, places = Draws(layout, ready.parts.sampler, make_batches(layout, labelled)).next(0)
    preferences = drawn.to(device)
    rows = [ready.train_rows[place] for place in places]
    start = time.perf_counter()
    with autocast(device, ready.recipe.training.mixed_precision), torch.no_grad():
        batch = send_to_device(objective.collate(rows), device)  # type: ignore[attr-defined]
        for update in objective.updates(ready.model, batch, preferences):
            losses = objective.training_losses(ready.model, update.batch, update.preferences)
            losses.values.sum().item()
    return time.perf_counter() - start


def _peak() -> str:
    if not torch.cuda.is_available():
        return ""
    return f"; {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB held so far"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
