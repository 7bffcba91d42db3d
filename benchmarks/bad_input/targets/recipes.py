"""Recipes, runs and the command line."""

import contextlib
import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.bad_input import tiny_runs
from benchmarks.bad_input.outcomes import Nonsense, Refused
from benchmarks.bad_input.target import Target, options_of
from mopref import cli, recipes

__all__ = ["TARGETS"]

_GROUP = "recipes"
_LINE = "command line"


@lru_cache
def _recipe() -> recipes.Recipe:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(yaml.safe_dump(tiny_runs.recipe_tree()))
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


def _method_tree() -> dict[str, Any]:
    tree = tiny_runs.recipe_tree()
    del tree["monitoring"], tree["evaluation"]["prompts"]
    return {**tree, "comparison": {"methods": ["ours", "mod"], "seeds": [0]}}


def _loaded_methods(tree: Any, flags: Any) -> Any:
    _write_tree(tree)
    recipe = recipes.load_method_recipe("recipe.yaml", flags)
    recipes.save_recipe(recipe, Path("again.yaml"))
    if recipes.load_method_recipe("again.yaml") != recipe:
        raise Nonsense("the recipe that was loaded again is another")
    return recipe


def _trained(tree: Any) -> Any:
    _write_tree(tree)
    return recipes.train(recipes.load_recipe("recipe.yaml"))


def _silent(text: str) -> None:
    pass


def _pushed(**options: Any) -> Any:
    with tiny_runs.no_hub():
        return recipes.push_to_hub(**options)


def _line(command: str) -> Any:
    def call(words: Any) -> None:
        texts = (
            [word if isinstance(word, str) else str(type(word)) for word in words] if isinstance(words, list) else []
        )
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), tiny_runs.no_hub():
            code = cli.main([command, *texts])
        if code not in (0, 2):
            raise AssertionError(f"exit code {code}: {said.getvalue()[-700:]}")
        if code == 2:
            if "Traceback" in said.getvalue() or not said.getvalue().strip():
                raise AssertionError(f"exit code 2 without a sentence: {said.getvalue()[:300]!r}")
            raise Refused(said.getvalue().strip())

    return call


_LINES: dict[str, tuple[list[str], Any]] = {
    "init": (["new.yaml"], None),
    "train": (
        ["recipe.yaml", "--training.steps", "3", "--data.source", "records.jsonl"],
        tiny_runs.stage_inputs,
    ),
    "evaluate": (["run", "--evaluation.points", "2", "--output", "out"], tiny_runs.stage_run),
    "generate": (
        ["run", "red cat", "--preference", "helpful=0.5,harmless=0.5", "--max-new-tokens", "3"],
        tiny_runs.stage_run,
    ),
    "export": (["run", "--preference", "helpful=0.5,harmless=0.5", "--output", "out"], tiny_runs.stage_run),
    "report": (["run", "--output", "report.html"], tiny_runs.stage_run),
    "compare": (["run", "other", "--output", "out"], tiny_runs.stage_run),
    "push": (["run", "OWNER/name", "--public"], tiny_runs.stage_run),
    "data": (["inspect", "recipe.yaml"], tiny_runs.stage_inputs),
    "completion": (["bash"], None),
}
# A training that is refused after its first step leaves what it had written until then.
_WRITES = _LINES.keys() - {"train"}
_SETTINGS = [name for name in recipes.__all__ if name.endswith("Settings")]

TARGETS = [
    Target(
        "mopref.recipes.load_recipe",
        _GROUP,
        _loaded,
        lambda: {"tree": tiny_runs.recipe_tree(), "flags": ["--training.steps", "3"]},
        weight=3,
        covers=("mopref.recipes.save_recipe", "mopref.recipes.RecipeError"),
    ),
    Target(
        "mopref.recipes.load_recipe",
        _GROUP,
        recipes.load_recipe,
        lambda: {"path": "recipe.yaml", "flags": ()},
        stage=tiny_runs.stage_recipe,
    ),
    Target(
        "mopref.recipes.load_method_recipe",
        _GROUP,
        _loaded_methods,
        lambda: {"tree": _method_tree(), "flags": ["--comparison.seeds", "[1, 2]"]},
        weight=1,
        covers=("mopref.recipes.MethodRecipe",),
    ),
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
    Target(
        "mopref.recipes.train",
        _GROUP,
        _trained,
        lambda: {"tree": tiny_runs.recipe_tree()},
        weight=0.3,
        stage=tiny_runs.stage_inputs,
    ),
    Target(
        "mopref.recipes.train",
        _GROUP,
        recipes.train,
        lambda: {"recipe": _recipe(), "resume": False, "tell": _silent},
        weight=0.2,
        stage=tiny_runs.stage_inputs,
    ),
    Target(
        "mopref.recipes.evaluate",
        _GROUP,
        recipes.evaluate,
        lambda: options_of(recipes.evaluate, run=tiny_runs.opened(), folder="out"),
        weight=0.2,
        writes=True,
    ),
    Target(
        "mopref.recipes.open_run",
        _GROUP,
        recipes.open_run,
        lambda: {"folder": "run", "with_data": False},
        weight=0.3,
        covers=("mopref.recipes.Run", "mopref.recipes.RunFolderError"),
        stage=tiny_runs.stage_run,
    ),
    Target(
        "mopref.recipes.compare",
        _GROUP,
        recipes.compare,
        lambda: options_of(recipes.compare, paths=["run", "other"]),
        weight=0.5,
        covers=("mopref.recipes.Comparison",),
        stage=tiny_runs.stage_run,
    ),
    Target(
        "mopref.recipes.comparison_text",
        _GROUP,
        recipes.comparison_text,
        lambda: {"comparison": tiny_runs.comparison()},
        weight=0.3,
    ),
    Target(
        "mopref.recipes.write_comparison",
        _GROUP,
        recipes.write_comparison,
        lambda: {"comparison": tiny_runs.comparison(), "folder": "out"},
        weight=0.3,
        writes=True,
    ),
    *(
        Target(
            f"mopref.recipes.{name}",
            _GROUP,
            getattr(recipes, name),
            lambda name=name: options_of(getattr(recipes, name), run_folder="run"),
            weight=0.03 if name == "report" else 0.5,
            writes=True,
            stage=tiny_runs.stage_run,
        )
        for name in ("model_card", "write_model_card", "report")
    ),
    Target(
        "mopref.recipes.push_to_hub",
        _GROUP,
        _pushed,
        lambda: options_of(recipes.push_to_hub, run_folder="run", repo_id="OWNER/name"),
        weight=0.5,
        covers=("mopref.recipes.Upload",),
        stage=tiny_runs.stage_run,
    ),
    *(
        Target(
            "mopref.cli.main",
            _LINE,
            _line(command),
            lambda words=words: {"words": list(words)},
            weight={"report": 0.03, "train": 0.1, "evaluate": 0.1}.get(command, 0.3),
            writes=command in _WRITES,
            stage=stage,
        )
        for command, (words, stage) in _LINES.items()
    ),
    Target("mopref.cli.main", _LINE, cli.main, lambda: {"arguments": ["--version"]}, covers=("mopref.cli.COMMANDS",)),
]
