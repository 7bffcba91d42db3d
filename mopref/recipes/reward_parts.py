"""The rewards that a recipe names, by the names of its objectives."""

from collections.abc import Callable
from inspect import Parameter
from typing import Any

from mopref.llm.demo.assets import minilm
from mopref.llm.evaluation import RewardJudge
from mopref.llm.rewards import REWARDS, shared_embedder
from mopref.recipes.mistakes import RecipeError, nearest, settings_at
from mopref.recipes.part_options import checked_options, find_part, parameters_of
from mopref.recipes.recipe import PartSettings, Recipe
from mopref.recipes.rows import KINDS

__all__ = ["check_judges", "check_rewards", "make_judges", "make_rewards"]

# Options that stand for what is loaded: a name or folder in place of the object.
_LOADED: dict[str, Callable[[str], Any]] = {
    "embedder": lambda name: shared_embedder(minilm() if name == "demo" else name)
}


def check_rewards(recipe: Recipe) -> None:
    """Refuse rewards where none are read, and a reward that is missing, unknown, or has not the options it is given.

    Also a pull that is not the last objective. The options of the objective are those that it takes.

    Raises:
        RecipeError: the setting is named.
    """
    if not KINDS[recipe.objective.name].takes_rewards:
        if recipe.rewards:
            raise RecipeError("rewards", f": the objective {recipe.objective.name!r} reads no rewards; leave them out.")
        return
    _check_pull(recipe)
    for name in recipe.rewards:
        if name not in recipe.objectives:
            raise RecipeError(f"rewards.{name}", f": there is no such objective; {nearest(name, recipe.objectives)}")
    for name in recipe.without_pull:
        if name not in recipe.rewards:
            # The cone is of a pull, which has no reward.
            is_pull = recipe.sampler.name == "cone" and name == recipe.objectives[-1]
            hint = f"name it as rlhf's option pull, or give one: {nearest('', REWARDS)}"
            told = hint if is_pull else nearest("", REWARDS)
            raise RecipeError(f"rewards.{name}", f": this reward is missing; {told}")
        _checked(recipe.rewards[name], f"rewards.{name}")


def _check_pull(recipe: Recipe) -> None:
    key, pull, names = "objective.options.pull", recipe.pull, recipe.objectives
    if pull is None:
        return
    if pull not in names:
        raise RecipeError(key, f"is {pull!r}: there is no such objective; {nearest(pull, names)}")
    if pull != names[-1]:
        raise RecipeError(key, f"is {pull!r}, and the last objective is {names[-1]!r}: the pull must be the last.")
    if pull in recipe.rewards:
        raise RecipeError(f"rewards.{pull}", f": this objective is the pull ({key}), which has none; leave it out.")


def make_rewards(recipe: Recipe) -> dict[str, Any]:
    """The rewards by the names of their objectives, in their order.

    A class that loads its model by name is made by its ``from_pretrained``, and ``embedder`` names a sentence model.

    Raises:
        RecipeError: options that a reward refuses; the setting is named.
    """
    return {name: _made(recipe.rewards[name], f"rewards.{name}") for name in recipe.without_pull}


def check_judges(recipe: Recipe) -> None:
    """Refuse a judge of no objective, and one that is unknown, or has not the options it is given.

    Raises:
        RecipeError: the setting is named.
    """
    for name, settings in recipe.evaluation.judges.items():
        key = f"evaluation.judges.{name}"
        if name not in recipe.objectives:
            raise RecipeError(key, f": there is no such objective; {nearest(name, recipe.objectives)}")
        _checked(settings, key)


def make_judges(recipe: Recipe, tokenizer: Any) -> dict[str, RewardJudge]:
    """The judges by the names of their objectives; raises as :func:`make_rewards`."""
    judges = recipe.evaluation.judges
    return {name: RewardJudge(_made(judges[name], f"evaluation.judges.{name}"), name, tokenizer) for name in judges}


def _made(settings: PartSettings, key: str) -> Any:
    make, options = _checked(settings, key)
    with settings_at(f"{key}.options", options):
        try:
            return make(**{name: _LOADED.get(name, _as_is)(value) for name, value in options.items()})
        except OSError as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise RecipeError(f"{key}.options", f": nothing could be loaded ({reason}); correct the name.") from error


def _checked(settings: PartSettings, key: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What makes a reward, and its options."""
    part = find_part(REWARDS, settings.name, f"{key}.name")
    make = getattr(part, "from_pretrained", part)
    options = checked_options(make, settings.options, f"{key}.options", {}, {})
    known = {**parameters_of(make), **parameters_of(part)}
    for option in options:
        if option not in known or known[option].kind is Parameter.VAR_KEYWORD:
            problem = f": there is no such option; {nearest(option, known, f'{key}.options.')}"
            raise RecipeError(f"{key}.options.{option}", problem)
    return make, options


def _as_is(value: Any) -> Any:
    return value
