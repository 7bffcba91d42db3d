"""Names of models that carry a preference: ``hh@helpful=0.7,harmless=0.3``."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import NamedTuple

from mopref._named_weights import named_weights, typed_number
from mopref._repr import short_repr

__all__ = ["ServedName", "grid_steps", "parse_name", "read_presets", "rounded_weights"]

_HOW = "name the model as NAME@helpful=0.7,harmless=0.3, NAME@0.7,0.3 or NAME@PRESET"
_LONGEST = 1000


class ServedName(NamedTuple):
    """What the name of a model asks for.

    Attributes:
        adapter: the name of the adapter.
        weights: λ on the grid, in whole steps of it, ``m`` numbers that sum to ``steps``.
        steps: how many steps of the grid make 1.
    """

    adapter: str
    weights: tuple[int, ...]
    steps: int

    @property
    def preference(self) -> tuple[float, ...]:
        """λ, m weights that sum to 1."""
        return tuple(weight / self.steps for weight in self.weights)


def parse_name(
    name: str,
    adapters: Mapping[str, Sequence[str]],
    presets: Mapping[str, Mapping[str, float] | Sequence[float]] | None = None,
    grid: float = 0.01,
) -> ServedName:
    """The adapter and the λ that the name of a model asks for.

    After ``@`` stand weights by the objectives' names, in any order, or in their order without names, one weight where
    there are two objectives (that of the first one), or the name of a preset. λ has to lie on the simplex, and is
    rounded to a grid, so that people who want almost the same share an adapter.

    Args:
        name: of the model, as a request has it.
        adapters: the objectives of each adapter, by its name.
        presets: λ by the names of presets, each by objectives' names or in order; one for all adapters.
        grid: the step of the grid; 1 / grid is a whole number.

    Raises:
        ValueError: an unknown adapter or objective, no λ, weights that are no numbers or not on the simplex, or a grid
            whose steps do not make 1. The message says what to write.
        TypeError: a name that is no text, adapters or presets that are no dictionaries, or a grid that is no number.

    Example:
        >>> parse_name("hh@helpful=0.704,harmless=0.296", {"hh": ("helpful", "harmless")}).preference
        (0.7, 0.3)
    """
    # Not by the gate of other public functions: an engine loads this where it starts, and that would bring torch.
    if not isinstance(name, str):
        raise TypeError(f"name is {short_repr(name)}, a {type(name).__name__}: give a text.")
    for what, value in (("adapters", adapters), ("presets", {} if presets is None else presets)):
        if not isinstance(value, Mapping):
            raise TypeError(f"{what} are {short_repr(value)}, a {type(value).__name__}: give a dictionary.")
    if len(name) > _LONGEST:
        raise ValueError(f"the name has {len(name)} characters, and may have {_LONGEST}: {_HOW}.")
    adapter, has_weights, text = name.partition("@")
    if adapter not in adapters:
        known = ", ".join(map(str, adapters)) or "none"
        raise ValueError(f"{adapter!r} is no adapter that is served (these are: {known}): {_HOW}.")
    if not has_weights or not text.strip():
        raise ValueError(f"{name!r} says no preference, and no model is served without one: {_HOW}.")
    objectives = adapters[adapter]
    if isinstance(objectives, str) or not isinstance(objectives, Sequence) or not all(_is_text(o) for o in objectives):
        raise TypeError(f"the objectives of {adapter!r} are {short_repr(objectives)}: give their names.")
    objectives = tuple(objectives)
    return ServedName(adapter, *rounded_weights(_weights(text.strip(), objectives, presets or {}), objectives, grid))


def rounded_weights(
    preference: Mapping[str, float] | Sequence[float], objectives: Sequence[str], grid: float
) -> tuple[tuple[int, ...], int]:
    """λ in whole steps of a grid, and how many of these make 1: the nearest point whose weights sum to 1.

    Each weight is less than a step away from λ's; what is left after rounding down goes to the largest remainders, of
    equal ones to the first.

    Raises:
        ValueError: no λ of these objectives, or a grid whose steps do not make 1.

    Example:
        >>> rounded_weights([1 / 3, 1 / 3, 1 / 3], ("a", "b", "c"), 0.01)
        ((34, 33, 33), 100)
    """
    # Not at the top, as above.
    from mopref.preferences import validate_preferences

    steps = grid_steps(grid)
    matrix = validate_preferences(preference, objectives)
    if len(matrix) != 1:
        raise ValueError(f"{len(matrix)} preferences are given where one is asked for: give one.")
    exact = [weight * steps for weight in matrix[0].tolist()]
    # What is a step but for the rounding of floating-point numbers is that step.
    whole = [math.floor(weight + 1e-9) for weight in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: (round(whole[place] - exact[place], 9), place))
    for place in by_remainder[: steps - sum(whole)]:
        whole[place] += 1
    return tuple(whole), steps


def grid_steps(grid: float) -> int:
    """How many steps of a grid make 1.

    Raises:
        ValueError: no whole number of them, or more than a million.
        TypeError: no number.
    """
    if isinstance(grid, bool) or not isinstance(grid, Real):
        raise TypeError(f"the grid is {short_repr(grid)}, a {type(grid).__name__}: give a number.")
    steps = round(1 / float(grid)) if 1e-6 <= grid <= 1 else 0
    if steps == 0 or not math.isclose(steps * float(grid), 1.0, rel_tol=1e-9):
        raise ValueError(f"the grid is {short_repr(grid)}: give a step of which a whole number makes 1, such as 0.01.")
    return steps


def read_presets(path: str | os.PathLike[str]) -> dict[str, dict[str, float] | list[float]]:
    """Named preferences from a JSON file: ``{"balanced": {"helpful": 0.5, "harmless": 0.5}, …}``.

    Raises:
        OSError: no such file.
        ValueError: no such JSON.
    """
    # Its limits and refusals are those of every description that is read.
    from mopref._bounded_reading import read_bounded
    from mopref._checked_files import MAX_DESCRIPTION_BYTES, parsed_json

    content = read_bounded(Path(path), MAX_DESCRIPTION_BYTES, "a JSON file of presets")
    presets = parsed_json(content, str(path))
    if not isinstance(presets, dict) or not all(isinstance(weights, dict | list) for weights in presets.values()):
        raise ValueError(f"{path} holds {json.dumps(presets):.80}: give weights by the name of each preset.")
    for name in presets:
        if not name or set("@=,") & set(name) or typed_number(name) is not None:
            raise ValueError(f"{path} has a preset {name!r:.80}: give it a name without @, = and commas, no number.")
    return presets


def _weights(
    text: str, objectives: tuple[str, ...], presets: Mapping[str, Mapping[str, float] | Sequence[float]]
) -> Mapping[str, float] | Sequence[float]:
    """What stands after ``@``."""
    if text in presets:
        return presets[text]
    if "=" in text:
        return _by_name(text, objectives)
    numbers = [typed_number(part.strip()) for part in text.split(",")]
    if any(number is None for number in numbers):
        known = f"the presets are {', '.join(presets)}" if presets else "there are no presets"
        raise ValueError(f"{text!r:.200} is neither weights nor a preset ({known}): {_HOW}.")
    values = [number for number in numbers if number is not None]
    if len(values) == 1 and len(objectives) == 2:
        values.append(1 - values[0])
    if len(values) != len(objectives):
        raise ValueError(
            f"{text!r:.200} has {len(values)} weights for {len(objectives)} objectives ({', '.join(objectives)}): give "
            "one for each, in this order."
        )
    return values


def _by_name(text: str, objectives: tuple[str, ...]) -> dict[str, float]:
    try:
        weights = named_weights(text)
    except ValueError as error:
        raise ValueError(f"{error}: {_HOW}.") from None
    for name in weights:
        if name not in objectives:
            raise ValueError(f"{name!r:.80} is no objective of this adapter: choose from {', '.join(objectives)}.")
    return weights


def _is_text(value: object) -> bool:
    return isinstance(value, str)
