"""What makes a run the run it is, as short texts by name: a checkpoint holds them, and a resumed run has the same."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from enum import Enum
from inspect import signature
from itertools import chain
from numbers import Integral, Real
from os.path import isabs
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mopref._repr import OptionsRepr
from mopref._tables import plain_rows
from mopref.conditioning.base_check import sampled_numbers
from mopref.sampler import PreferenceSampler
from mopref.training.random_state import random_state, set_random_state

__all__ = ["check_identity", "run_identity"]

_Identity = dict[str, str]

# Rows that are read, and entries of a long list, tensor or row; both evenly spaced, the first and the last among them.
_ROWS, _ENTRIES = 128, 1024
_LONGEST_TEXT, _MOST_KEYS, _DEEPEST = 100, 16, 8
_NAMED = (type, FunctionType, BuiltinFunctionType, MethodType)
# Options without a say in what is trained: a sampler's seed is the config's, and its names are the objective's.
_SAMPLER_FRAME = frozenset(("num_objectives", "seed"))
# Of an adapter: where it starts, which the checkpoint replaces, and its layers, which the names of parameters tell.
_ADAPTER_START = frozenset(("initialization", "layers", "seed", "target_modules"))
# What adapters are without a word: checkpoints from before there was another gate or core do not say it.
_UNSAID = {"core": "'diagonal'", "gate": "'linear'"}
# Computed from a row and a model, perhaps anew and with other rounding.
_COMPUTED_COLUMNS = (
    "hidden_states",
    "reference_log_probabilities",
    "reference_model",
    "reference_precision",
)
# What stands for rows that are not the same twice, such as randomly changed images.
_RANDOM_ROWS = "another at every reading"


def run_identity(parts: Mapping[str, Any], model: nn.Module, convention: str, rows: Sequence[Any] | None) -> _Identity:
    """The identity of a run, from what it is made of; random generators stay as they are.

    * Of a part (a scalarizer, say): its class and its options, also those of the parts in it. An option is what
      ``options()`` of the class itself says; where it is inherited, what a constructor takes and the part keeps under
      the same name, and any attribute that is a part or a frozen dataclass. Functions and classes count by their name,
      folders by their own name without those they lie in, and what has no plain content (models, …) by its type.
    * Of the model: its adapters' settings, and a few numbers of each frozen parameter, which no checkpoint holds.
    * Of the rows: the content of 128 of them, without what was computed with a model.

    Args:
        parts: by their names in messages.
        model: what is trained.
        convention: what λ says to it.
        rows: the training data.
    """
    identity = {"convention": convention}
    for name, part in parts.items():
        identity |= dict(_part_settings(name, part))
    return {**identity, **dict(_model_settings(model)), "content of the rows": _rows_digest(rows)}


def check_identity(own: Mapping[str, str], checkpoint: Mapping[str, Any], folder: str | Path) -> None:
    """Refuse a checkpoint of another run.

    Raises:
        ValueError: the first thing that differs, with both values.
    """
    for name in chain(own, (name for name in checkpoint if name not in own)):
        theirs, ours = checkpoint.get(name), own.get(name)
        if theirs != ours and _RANDOM_ROWS not in (theirs, ours):
            raise ValueError(
                f"{folder} was trained with {name} = {theirs}, not {ours}: resume with the same, or start a new run "
                "(one that goes on from what was learned begins with an adapter that save_pretrained wrote)."
            )


def _part_settings(name: str, part: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(part, Mapping):
        yield name, type(part).__name__
    # Such as the rows of a pre-training term, which no message shows.
    hidden = {field.name for field in dataclasses.fields(part) if not field.repr} if _is_dataclass(part) else ()
    for option, value in _options(part).items():
        has_options = _is_part(value) or (isinstance(value, Mapping) and 0 < len(value) <= _MOST_KEYS)
        if has_options and option not in hidden and name.count(".") < _DEEPEST:
            yield from _part_settings(f"{name}.{option}", value)
        else:
            yield f"{name}.{option}", _short_text(value, option in hidden)


def _model_settings(model: nn.Module) -> Iterator[tuple[str, str]]:
    for path, module in model.named_modules():
        config = getattr(module, "adapter_config", None)
        if config is not None:
            name = f"adapter of {path}" if path else "adapter"
            for place, value in _part_settings(name, config):
                setting = place.split(".")[-1]
                if setting not in _ADAPTER_START and _UNSAID.get(setting) != value:
                    yield place, value
    frozen = [(name, parameter) for name, parameter in model.named_parameters() if not parameter.requires_grad]
    content = [(name, tuple(parameter.shape), sampled_numbers(parameter)) for name, parameter in frozen]
    yield "frozen weights", _digest(content) if frozen else "none"


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_part(value: Any) -> bool:
    """Whether a value is a record of options, which no training changes."""
    is_frozen = _is_dataclass(value) and type(value).__dataclass_params__.frozen
    return is_frozen or (isinstance(value, OptionsRepr) and not isinstance(value, type))


def _options(part: Any) -> dict[str, Any]:
    """The options of a part that are the same in every process that makes it anew in the same way."""
    if isinstance(part, Mapping):
        return {str(name): value for name, value in part.items()}
    if isinstance(part, OptionsRepr):
        options = part.options()
        if "options" not in vars(type(part)):
            options = _constructor_options(part, options)
    elif _is_dataclass(part):
        options = {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.init}
    else:
        return {}
    frame = {"device", *(_SAMPLER_FRAME if isinstance(part, PreferenceSampler) else ())}
    return {name: value for name, value in options.items() if name not in frame}


def _constructor_options(part: OptionsRepr, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those among a part's attributes that were given to it: others may be counters, caches or the time of day."""
    attributes = {**{name.removeprefix("_"): value for name, value in vars(part).items()}, **vars(part), **options}
    constructors = [vars(kind)["__init__"] for kind in reversed(type(part).__mro__) if "__init__" in vars(kind)]
    parameters = [name for constructor in constructors for name in signature(constructor).parameters]
    given = {name: attributes[name] for name in parameters if name in attributes}
    return given | {name: value for name, value in options.items() if _is_part(value)}


def _rows_digest(rows: Sequence[Any] | None) -> str:
    """A digest of rows spread evenly over the data; a fixed text where two readings of them differ."""
    if rows is None:
        return "none"
    before = random_state(devices=False)
    try:
        digest = _digest(_rows_content(rows))
        # Rows that are changed at random draw from some generator, or differ the next time.
        is_random = not _same(random_state(devices=False), before) or _digest(_rows_content(rows)) != digest
    except Exception:  # Whatever a data set of the user's own raises: the training will raise it again.
        is_random = True
    finally:
        set_random_state(before)
    return _RANDOM_ROWS if is_random else digest


def _same(state: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states of the global generators are one."""
    return all(
        torch.equal(part, other[name]) if isinstance(part, Tensor) else part == other[name]
        for name, part in state.items()
    )


def _rows_content(rows: Sequence[Any]) -> list[Any]:
    # Of a table the same in whatever format it hands out its rows, and as of a list of them.
    rows = plain_rows(rows)
    return [_content(_without_computed(rows[index])) for index in _spread(len(rows), _ROWS)]


def _without_computed(row: Any) -> Any:
    if not isinstance(row, Mapping):
        return row
    return {name: value for name, value in row.items() if not str(name).startswith(_COMPUTED_COLUMNS)}


def _spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers 0 … count − 1, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [index * (count - 1) // (most - 1) for index in range(most)]


def _short_text(value: Any, hidden: bool) -> str:
    """The content of an option; a digest of it where it is long or not to be shown."""
    text = repr(_content(value))
    return f"{type(value).__name__} of digest {_digest(text)}" if hidden or len(text) > _LONGEST_TEXT else text


def _digest(content: Any) -> str:
    return hashlib.sha256(repr(content).encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _content(value: Any, level: int = 0) -> Any:
    """The content of a value in plain values, whose ``repr`` is the same in every process."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str | bytes | range | complex | torch.dtype):
        return _folder_name(value)
    if isinstance(value, Real):
        # 1 and 1.0 say the same.
        return int(value) if isinstance(value, Integral) else _whole(float(value))
    if isinstance(value, PurePath | Enum) or isinstance(value, _NAMED):
        return value.name if isinstance(value, PurePath | Enum) else value.__name__
    if level >= _DEEPEST:
        return type(value).__name__
    return _container_content(value, level + 1)


def _whole(value: float) -> float:
    return int(value) if value.is_integer() else value


def _folder_name(value: Any) -> Any:
    """An absolute path by its own name, since the folders above may have others on another machine."""
    return PurePath(value).name if isinstance(value, str) and isabs(value) else value


def _container_content(value: Any, level: int) -> Any:
    if isinstance(value, Tensor | np.ndarray):
        return _numbers(value, level)
    if _is_part(value) or _is_dataclass(value):
        return [type(value).__name__, _container_content(_options(value), level)]
    if isinstance(value, Mapping):
        return sorted(([str(key), _content(item, level)] for key, item in value.items()), key=repr)
    if isinstance(value, Set):
        return sorted((_content(item, level) for item in value), key=repr)
    if isinstance(value, list | tuple):
        items = [value[index] for index in _spread(len(value), _ENTRIES)]
        # Token ids need no look at each of them.
        if not all(type(item) is int for item in items):
            items = [_content(item, level) for item in items]
        return items if len(value) == len(items) else [*items, len(value)]
    return type(value).__name__


def _numbers(values: Any, level: int) -> Any:
    """A small tensor or array as the list of the same numbers; of a large one its shape and some of its numbers."""
    try:
        if isinstance(values, Tensor):
            values = values.detach()
        shape, flat = tuple(values.shape), values.reshape(-1)
        if len(flat) <= _ENTRIES:
            return _content(values.tolist(), level)
        return [shape, _content(flat[_spread(len(flat), _ENTRIES)].tolist(), level)]
    except (RuntimeError, NotImplementedError, TypeError):  # One without plain numbers, such as a sparse one.
        return type(values).__name__
