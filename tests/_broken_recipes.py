"""Recipes that are broken at one place each, and what must be said of them."""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from mopref.recipes.recipe import PartSettings, Recipe
from mopref.recipes.typed import settings_of

# Words by which a sentence says what to do.
_WAYS_OUT = ("must be", "did you mean", "there are", "choose", "give", "leave", "add it", "write", "lower", "in [0, 1)")

OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("objectives", []),
    ("objectives", ["helpful", "helpful"]),
    ("seed", -1),
    ("seed", 2**40),
    ("data.test_fraction", 0.0),
    ("data.test_fraction", 1.5),
    ("data.max_prompt_length", 0),
    ("data.max_response_length", -3),
    ("model.device", "gpu"),
    ("model.device", "cuda:99"),
    ("adapter.rank", -1),
    ("adapter.preference_rank", 0),
    ("adapter.scaling", 0.0),
    ("adapter.scaling", float("inf")),
    ("training.steps", 0),
    ("training.batch_size", 0),
    ("training.preferences_per_step", 0),
    ("training.preferences_per_step", 3),
    ("training.gradient_accumulation_steps", 0),
    ("training.learning_rate", 0.0),
    ("training.learning_rate", float("nan")),
    ("training.weight_decay", -1.0),
    ("training.warmup_ratio", 1.0),
    ("training.max_grad_norm", 0.0),
    ("training.checkpoint_every", 0),
    ("training.log_every", 0),
    ("training.epochs", -1.0),
    ("monitoring.evaluation_every", 0),
    ("monitoring.rows", 0),
    ("monitoring.sampled_prompts", -1),
    ("monitoring.patience", 3),
    ("monitoring.keep_best", True),
    ("evaluation.interval_level", 1.0),
    ("evaluation.sampled_prompts", -1),
    ("evaluation.judges", {"brief": {"name": "sentiment"}}),
    ("evaluation.judges", {"helpful": {"name": "sentimant"}}),
    ("evaluation.prompts", ["red cat", " "]),
    ("data.source", " "),
    ("model.name", ""),
    ("model.revision", " "),
    ("objectives", ["helpful"]),
    ("objectives", ["helpful", "kl"]),
    ("evaluation.points", 0),
    ("evaluation.batch_size", 0),
    ("evaluation.max_new_tokens", 0),
    ("evaluation.reference_point", [1.0]),
    ("evaluation.preferences", [{"helpful": 2.0, "harmless": -1.0}]),
    ("evaluation.preferences", [{"helpful": 1.0}]),
    ("objective.options.beta", -1.0),
    ("objective.options.loss", "huber"),
    ("objective.options.label_smoothing", 0.9),
    ("scalarizer.options.ideal", [0.0, 0.0, 0.0]),
    ("scalarizer.options.margin", -1.0),
    ("sampler.options.alpha", [1.0]),
    ("data.options.limits", 3),
    ("training.optimizer", "adamw-16bit"),
    ("training.optimizer", "paged-adamw-8bit"),
    ("scalarizer.options.scalarizer", "linear"),
    ("data.source", {"helpful": "records.jsonl", "harmless": "records.jsonl"}),
    ("data.loader", "unpaired-preferences"),
    ("data.loader", "recrods"),
    ("objective.name", "dpoo"),
    ("scalarizer.name", "tchebychef"),
    ("sampler.name", "unifrom"),
]
# What is refused together with another setting of the recipe, and so under that one's name or none.
_ELSEWHERE = {"adapter.preference_rank", "training.preferences_per_step", "training.epochs", "evaluation.preferences"}


@dataclass(frozen=True)
class Broken:
    """A recipe with one mistake."""

    key: str
    tree: Any = None
    flags: Sequence[str] = ()

    def check(self, message: str, place: str) -> None:
        """One line that begins with the place, names the setting, and says a way out."""
        assert "\n" not in message
        assert message.startswith(place), message
        if self.key not in _ELSEWHERE:
            section = self.key if self.key.count(".") < 2 else self.key.rpartition(".")[0]
            assert message[len(place) :].startswith((self.key, section)), (self.key, message)
        assert re.search(r"[.?]$", message), message
        assert any(way in message for way in _WAYS_OUT), message
        for word in ("<class", "Traceback", "Parser key", "Expected", "NoneType", "__init__", "object at"):
            assert word not in message, message


def _leaves(section: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    for name, kind in settings_of(section).items():
        place = f"{key}.{name}" if key else name
        yield place, kind
        if is_dataclass(kind):
            yield from _leaves(kind, place)


def _with(tree: Any, key: str, value: Any) -> Any:
    """A copy of the tree with one setting changed; sections that are not there are made."""
    copied = copy.deepcopy(tree)
    place, *names = copied, *key.split(".")
    for name in names[:-1]:
        place = place.setdefault(name, {"name": _DEFAULTS[name]} if name in _DEFAULTS else {})
    place[names[-1]] = value
    if key.startswith("sampler.options.alpha"):
        copied["sampler"] = {"name": "dirichlet", "options": {"alpha": value}}
    return copied


_DEFAULTS = {s.name: s.default.name for s in fields(Recipe) if isinstance(s.default, PartSettings)}


def _misspelt(name: str) -> str:
    return f"{name[:-1]}{name[-1]}{name[-1]}x"


def broken_files(tree: Any) -> Iterator[Broken]:
    """Settings misspelt at every depth, of a wrong type, and out of range; sections that are none."""
    for key, kind in _leaves(Recipe):
        section, _, name = key.rpartition(".")
        wrong = f"{section}.{_misspelt(name)}" if section else _misspelt(name)
        yield Broken(wrong, _with(tree, wrong, 1))
        for value in (3 if "str" in str(kind) and "int" not in str(kind) else "x", [[]], {"a": []}, True):
            if _fits(kind, value):
                continue
            yield Broken(key, _with(tree, key, value))
    for key, value in OUT_OF_RANGE:
        yield Broken(key, _with(tree, key, value))
    without = {name: value for name, value in tree.items() if name != "objectives"}
    yield Broken("objectives", without)
    yield Broken("data.source", {**tree, "data": {}})


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is right, or only of a free kind whose content is refused elsewhere."""
    if is_dataclass(kind):
        # The name alone stands for a part.
        return isinstance(value, dict) or (kind is PartSettings and isinstance(value, str))
    text = str(kind)
    if isinstance(value, bool):
        return "bool" in text
    if isinstance(value, str):
        return "str" in text and "list" not in text and "tuple" not in text
    if isinstance(value, dict):
        return "dict" in text
    return False


def broken_flags() -> Iterator[Broken]:
    """Flags misspelt, of a wrong type and out of range."""
    for key, kind in _leaves(Recipe):
        if is_dataclass(kind):
            continue
        section, _, name = key.rpartition(".")
        wrong = f"{section}.{_misspelt(name)}" if section else _misspelt(name)
        yield Broken(wrong, flags=[f"--{wrong}", "1"])
        if not _fits(kind, "x"):
            yield Broken(key, flags=[f"--{key}", "x"])
    for key, value in OUT_OF_RANGE:
        if not isinstance(value, list) and value == value and ".options." not in key:
            yield Broken(key, flags=[f"--{key}", str(value)])
