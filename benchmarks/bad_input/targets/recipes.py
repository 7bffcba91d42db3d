"""Recipes, runs and the command line."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.bad_input import tiny
from benchmarks.bad_input.outcomes import Nonsense, Refused
from benchmarks.bad_input.target import Target, options_of
from mopref import cli, recipes

__all__ = ["TARGETS", "recipe_tree"]

_GROUP = "recipes"
_LINE = "command line"


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
        "output": "run",
    }


@lru_cache
def _recipe() -> recipes.Recipe:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe_tree()))
        return recipes.load_recipe(path)


def _write_tree(tree: Any) -> None:
    try:
        text = yaml.safe_dump(tree)
    except Exception:
        # What YAML has no form for.
        try:
            text = json.dumps(tree, default=repr, skipkeys=True)
        except RecursionError:
            text = "[" * 5000
    Path("recipe.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")


def _loaded(tree: Any, flags: Any) -> Any:
    _write_tree(tree)
    recipe = recipes.load_recipe("recipe.yaml", flags)
    recipes.save_recipe(recipe, Path("again.yaml"))
    if recipes.load_recipe("again.yaml") != recipe:
        raise Nonsense("the recipe that was loaded again is another")
    return recipe


def _trained(tree: Any) -> Any:
    """Everything up to the model, which is not there."""
    Path("records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in tiny.records()))
    _write_tree(tree)
    return recipes.train(recipes.load_recipe("recipe.yaml"))


def _line(command: str) -> Any:
    def call(words: Any) -> None:
        texts = (
            [word if isinstance(word, str) else str(type(word)) for word in words] if isinstance(words, list) else []
        )
        Path("recipe.yaml").write_text(yaml.safe_dump(recipe_tree()))
        Path("records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in tiny.records()))
        import contextlib
        import io

        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = cli.main([command, *texts])
        if code not in (0, 2):
            raise AssertionError(f"exit code {code}: {said.getvalue()[-700:]}")
        if code == 2:
            if "Traceback" in said.getvalue() or not said.getvalue().strip():
                raise AssertionError(f"exit code 2 without a sentence: {said.getvalue()[:300]!r}")
            raise Refused

    return call


_LINES = {
    "init": ["new.yaml", "--objective", "dpo"],
    "train": ["recipe.yaml", "--training.steps", "3", "--data.source", "records.jsonl"],
    "evaluate": ["run", "--evaluation.points", "11", "--output", "out"],
    "generate": ["run", "--preference", "0.5,0.5", "--prompt", "red cat"],
    "export": ["run", "--preference", "helpful=0.5,harmless=0.5", "--output", "out"],
    "report": ["run", "--output", "report.html"],
    "compare": ["run", "other"],
    "push": ["run", "OWNER/name", "--private"],
    "data": ["inspect", "recipe.yaml"],
    "completion": ["bash"],
}
_SETTINGS = [name for name in recipes.__all__ if name.endswith("Settings")]

TARGETS = [
    Target(
        "mopref.recipes.load_recipe",
        _GROUP,
        _loaded,
        lambda: {"tree": recipe_tree(), "flags": ["--training.steps", "3"]},
        weight=3,
        covers=("mopref.recipes.save_recipe", "mopref.recipes.RecipeError"),
    ),
    Target("mopref.recipes.load_recipe", _GROUP, recipes.load_recipe, lambda: {"path": "recipe.yaml", "flags": ()}),
    *(
        Target(
            f"mopref.recipes.{name}",
            _GROUP,
            getattr(recipes, name),
            lambda name=name: options_of(getattr(recipes, name), **({"name": "dpo"} if name == "PartSettings" else {})),
            weight=0.7,
        )
        for name in _SETTINGS
    ),
    Target("mopref.recipes.Recipe", _GROUP, recipes.Recipe, lambda: options_of(recipes.Recipe, objectives=("a", "b"))),
    Target(
        "mopref.recipes.recipe_text",
        _GROUP,
        recipes.recipe_text,
        lambda: {"recipe": _recipe(), "with_help": False},
        weight=0.5,
    ),
    Target(
        "mopref.recipes.save_recipe",
        _GROUP,
        recipes.save_recipe,
        lambda: {"recipe": _recipe(), "path": Path("recipe.yaml")},
        weight=0.5,
        writes=True,
    ),
    Target("mopref.recipes.train", _GROUP, _trained, lambda: {"tree": recipe_tree()}, weight=0.3),
    Target(
        "mopref.recipes.train",
        _GROUP,
        recipes.train,
        lambda: {"recipe": _recipe(), "resume": False, "tell": print},
        weight=0.2,
    ),
    Target("mopref.recipes.evaluate", _GROUP, recipes.evaluate, lambda: options_of(recipes.evaluate, run=None)),
    Target(
        "mopref.recipes.open_run",
        _GROUP,
        recipes.open_run,
        lambda: {"folder": "run", "with_data": False},
        covers=("mopref.recipes.Run", "mopref.recipes.RunFolderError"),
    ),
    Target(
        "mopref.recipes.compare",
        _GROUP,
        recipes.compare,
        lambda: options_of(recipes.compare, paths=["run", "other"]),
        covers=("mopref.recipes.Comparison",),
    ),
    Target("mopref.recipes.comparison_text", _GROUP, recipes.comparison_text, lambda: {"comparison": None}, weight=0.3),
    Target(
        "mopref.recipes.write_comparison",
        _GROUP,
        recipes.write_comparison,
        lambda: {"comparison": None, "folder": "out"},
        weight=0.3,
        writes=True,
    ),
    *(
        Target(
            f"mopref.recipes.{name}",
            _GROUP,
            getattr(recipes, name),
            lambda name=name: options_of(getattr(recipes, name), run_folder="run"),
            writes=True,
        )
        for name in ("model_card", "write_model_card", "report")
    ),
    Target(
        "mopref.recipes.push_to_hub",
        _GROUP,
        recipes.push_to_hub,
        lambda: options_of(recipes.push_to_hub, run_folder="run", repo_id="OWNER/name"),
        covers=("mopref.recipes.Upload",),
    ),
    *(
        Target("mopref.cli.main", _LINE, _line(command), lambda words=words: {"words": list(words)}, weight=0.3)
        for command, words in _LINES.items()
    ),
    Target("mopref.cli.main", _LINE, cli.main, lambda: {"arguments": ["--version"]}, covers=("mopref.cli.COMMANDS",)),
]
