"""A tiny model's folder, records and a finished run on them, made once before workers are forked; a stand-in hub."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import yaml

from benchmarks.bad_input import tiny
from mopref import recipes
from mopref.llm.rewards import Embedder

__all__ = [
    "comparison",
    "embedder",
    "no_hub",
    "opened",
    "recipe_tree",
    "stage_inputs",
    "stage_model",
    "stage_recipe",
    "stage_run",
]

# A run's folder and two copies of it; a comparison needs two.
RUN, OTHER = "run", "other"


def recipe_tree() -> dict[str, Any]:
    """A recipe as a file holds it."""
    return {
        "objectives": ["helpful", "harmless"],
        "data": {"source": "records.jsonl", "test_fraction": 0.25},
        "model": {"name": "model", "device": "cpu"},
        "adapter": {"rank": 4, "layers": [-2, -1]},
        "objective": {"name": "dpo", "options": {"beta": 0.1}},
        "scalarizer": {"name": "tchebycheff", "options": {"ideal": [0, 0]}},
        "sampler": {"name": "vertex-biased", "options": {"vertex_probability": 0.5}},
        "training": {"steps": 2, "batch_size": 4, "preferences_per_step": 1, "progress": False, "log_every": 1},
        "monitoring": {"evaluation_every": 2},
        "evaluation": {"points": 3, "reference_point": [1, 1], "prompts": ["red cat"], "max_new_tokens": 4},
        "seed": 0,
        "output": "new-run",
    }


def _records() -> list[dict[str, Any]]:
    """Enough pairs, of different prompts, for a part that is held out."""
    return [
        {
            "prompt": f"{first} {second}",
            "response_0": "cat runs",
            "response_1": "dog eats",
            "helpful": place % 2,
            "harmless": 1 - place % 2,
        }
        for place, first in enumerate(tiny.WORDS[:5])
        for second in tiny.WORDS[5:]
    ]


@lru_cache
def _scene() -> tempfile.TemporaryDirectory[str]:
    """A folder with the model, the records and a run that was evaluated; it goes when the process that made it ends."""
    made = tempfile.TemporaryDirectory(prefix="bad-input-scene-")
    folder = Path(made.name)
    tiny.base(num_hidden_layers=2).save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in _records()))
    tree = recipe_tree()
    tree["data"]["source"], tree["model"]["name"] = str(folder / "records.jsonl"), str(folder / "model")
    tree["output"] = str(folder / RUN)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    recipes.evaluate(recipes.train(recipes.load_recipe(folder / "recipe.yaml")))
    return made


def stage_recipe(folder: Path) -> None:
    """Put a recipe into a folder."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_tree()))


def stage_model(folder: Path) -> None:
    """Put the model's folder into another."""
    shutil.copytree(Path(_scene().name) / "model", folder / "model")


def stage_inputs(folder: Path) -> None:
    """Put what a recipe names, and the recipe, into a folder."""
    stage_recipe(folder)
    stage_model(folder)
    shutil.copy(Path(_scene().name) / "records.jsonl", folder)


def stage_run(folder: Path) -> None:
    """Put two finished runs, of the same results, into a folder."""
    for name in (RUN, OTHER):
        shutil.copytree(Path(_scene().name) / RUN, folder / name)


@lru_cache
def embedder() -> Embedder:
    """The model as one that embeds texts."""
    return Embedder(Path(_scene().name) / "model")


@lru_cache
def opened() -> recipes.Run:
    """The finished run with its data."""
    return recipes.open_run(Path(_scene().name) / RUN, with_data=True)


@lru_cache
def comparison() -> recipes.Comparison:
    """Of the finished run with itself."""
    with tempfile.TemporaryDirectory() as folder:
        stage_run(Path(folder))
        return recipes.compare([Path(folder) / RUN, Path(folder) / OTHER])


class _Hub:
    """Stands for the hub: takes what a hub would, and nothing leaves the machine."""

    def __init__(self, token: Any = None) -> None:
        pass

    def create_repo(self, repo_id: Any, *, private: Any, exist_ok: Any) -> Any:
        return SimpleNamespace(repo_id=repo_id)

    def create_branch(self, repo_id: Any, *, branch: Any, exist_ok: Any) -> None:
        pass

    def upload_folder(self, *, repo_id: Any, **options: Any) -> Any:
        return SimpleNamespace(commit_url=f"hub/{repo_id}")


@contextmanager
def no_hub() -> Iterator[None]:
    """The stand-in in the hub's place."""
    import huggingface_hub

    with mock.patch.object(huggingface_hub, "HfApi", _Hub):
        yield
