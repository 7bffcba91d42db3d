"""Which public names there are, found by looking, and which of them no target covers."""

import importlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bad_input.target import Target

__all__ = ["NOT_CALLED", "public_names", "uncovered"]

# Public names that need no cases, each with the reason.
NOT_CALLED = {
    "mopref.preferences.SUM_TOLERANCE": "a number",
    "mopref.gradients.GradientWeighting": "abstract: called through each method",
    "mopref.recipes.RunFolderError": "an exception",
    "mopref.baselines.METHODS": "a table of methods, each called through make_method",
    "mopref.baselines.Method": "an entry of that table",
    "mopref.recipes.MethodComparison": "made by compare_methods, which tests call: it takes seconds",
    "mopref.recipes.compare_methods": "trains every method: tests call it on folders and settings that are refused",
    "mopref.llm.policy.ComposedPolicy": "abstract: called through each method",
    "mopref.llm.data.LoadReport": "filled by loaders, which are handed it",
    "mopref.llm.data.loaders.LoadReport": "filled by loaders, which are handed it",
    "mopref.llm.data.loaders.recognise_shape": "the same as mopref.llm.data.recognise_shape",
    "mopref.llm.engines.EngineSamples": "filled by engines, which ask a server",
    "mopref.llm.demo.minilm": "fetches a model: it takes a folder only",
    "mopref.llm.demo.smollm2": "fetches a model: it takes a folder only",
    "mopref.llm.demo.harm_pairs": "fetches a model first",
    "mopref.llm.demo.HarmReward": "fetches a model first",
    "mopref.llm.demo.learned_harm_reward": "fetches a model first",
    "mopref.objective.is_as_defined": "asks whether a method is the one of a class: any object is right",
    "mopref.problem.checks_variables": "a decorator, called through every problem's evaluate",
}


def public_names(repository: Path) -> list[str]:
    """The names in the ``__all__`` of every package that has a page under docs/api, and of ``mopref``."""
    pages = sorted((repository / "docs" / "api").glob("*.md"))
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    modules = ["mopref", "mopref.llm.data.loaders", *(line[4:].strip() for line in lines if line.startswith("::: "))]
    return [f"{module}.{name}" for module in modules for name in importlib.import_module(module).__all__]


def uncovered(names: Sequence[str], targets: Sequence[Target]) -> list[str]:
    """Names that are neither a target's, nor run through by one, nor excused. A name may stand in two packages."""
    covered = {name for target in targets for name in (target.name, *target.covers)} | NOT_CALLED.keys()
    values = {id(value) for name in covered if (value := _value(name)) is not None}
    return [name for name in names if name not in covered and id(_value(name)) not in values]


def _value(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError):
        return None
