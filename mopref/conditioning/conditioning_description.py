"""What ``conditioning.json`` may hold: fields and settings as the class that wrote them would have put them there."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mopref._checked_files import parsed_description, regular_file
from mopref.conditioning.adapter_description import CONFIG_FILE, is_base_check
from mopref.conditioning.adapter_folder import CONDITIONING_CONFIG, is_there
from mopref.setting_types import checked_seed

__all__ = ["FORMAT_VERSION", "SAVE_AGAIN", "check_settings", "made_of", "read_description"]

FORMAT_VERSION = 1
SAVE_AGAIN = "the conditioning is damaged, save it again"
_MOST, _MOST_LAYERS, _MOST_DIMENSIONS = 2**40, 100, 16


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MOST


def _is_shape(value: Any) -> bool:
    is_short = isinstance(value, list) and len(value) <= _MOST_DIMENSIONS
    return is_short and all(type(size) is int and 0 <= size <= _MOST for size in value)


def _is_seed(value: Any) -> bool:
    try:
        return type(value) is int and checked_seed(value) == value
    except ValueError:
        return False


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "objectives": list,
    "preference_convention": str,
    "settings": dict,
    "places": dict,
    "base_model": (str, type(None)),
    "base_check": (dict, type(None)),
    "base_tensors": dict,
    "sha256": str,
}


def read_description(folder: Path) -> dict[str, Any]:
    """The description of a folder, of which the version and the types of its fields are checked.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a damaged one, or one of another version.
    """
    path = regular_file(folder, CONDITIONING_CONFIG)
    if path is None:
        own = f"; it holds an adapter ({CONFIG_FILE}), which PreferenceModel.load reads"
        raise FileNotFoundError(
            f"{folder} holds no saved conditioning: it has no {CONDITIONING_CONFIG}"
            f"{own if is_there(folder, CONFIG_FILE) else ''}."
        )
    try:
        description = parsed_description(path)
    except ValueError as error:
        raise ValueError(f"{error}: {SAVE_AGAIN}.") from error
    number = description.get("format_version") if isinstance(description, dict) else None
    if type(number) is int and number > FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format version {number}, and this mopref reads {FORMAT_VERSION}: use the release of mopref "
            f"that wrote it ({description.get('versions')!r:.200})."
        )
    if type(number) is not int or number != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version is {number!r:.80}, not {FORMAT_VERSION}: {SAVE_AGAIN}.")
    for name, kind in _FIELDS.items():
        if not isinstance(description.get(name, ...), kind):
            found = repr(description[name])[:80] if name in description else "missing"
            raise ValueError(f"{path}: {name} is {found}, which it cannot be: {SAVE_AGAIN}.")
    for name, is_right, what in _CHECKS:
        if not is_right(description[name]):
            raise ValueError(f"{path}: {name} is {description[name]!r:.80}, not {what}: {SAVE_AGAIN}.")
    return dict(description)


# Beyond the types of :data:`_FIELDS`.
_CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "objectives",
        lambda value: _is_texts(value) and all(value) and len(set(value)) == len(value),
        "a list of texts, each once and none empty",
    ),
    (
        "base_check",
        lambda value: value is None or is_base_check(value),
        "a list of numbers for each weight by its name",
    ),
    ("base_tensors", lambda value: all(map(_is_shape, value.values())), "a shape for each weight by its name"),
)

# By the names of settings.
_SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "num_objectives": (_is_count, "a whole number above 0"),
    "num_variables": (_is_count, "a whole number above 0"),
    "embedding_size": (_is_count, "a whole number above 0"),
    "hidden": (
        lambda value: isinstance(value, list) and len(value) <= _MOST_LAYERS and all(map(_is_count, value)),
        f"a list of at most {_MOST_LAYERS} whole numbers above 0",
    ),
    "anchor_shape": (_is_shape, "a shape"),
    "target_modules": (lambda value: value is None or isinstance(value, str) or _is_texts(value), "a list of texts"),
    "vectorize": (lambda value: isinstance(value, bool), "true or false"),
    "train_base": (lambda value: isinstance(value, bool), "true or false"),
    "seed": (_is_seed, "a whole number of 64 bits"),
}
# By the classes of this library.
_NAMES: dict[str, set[str]] = {
    "ParetoSetModel": {"num_objectives", "num_variables", "hidden", "seed"},
    "FiLMModel": {"hidden", "target_modules", "train_base", "seed"},
    "HypernetworkModel": {"hidden", "embedding_size", "vectorize", "train_base", "seed"},
    "ConcatenationModel": set(),
    "DecisionModel": {"num_variables", "anchor_shape"},
}


def check_settings(kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that the class would not have written.

    Raises:
        ValueError: one that is missing, unknown, or holds what it cannot; of a class of another none is looked at.
    """
    names = _NAMES.get(kind)
    if names is None:
        return
    for name in sorted(names ^ settings.keys()):
        raise ValueError(f"{name!r:.80} is {'missing' if name in names else 'no setting of ' + kind}")
    for name, value in settings.items():
        is_right, what = _SETTINGS[name]
        if not is_right(value):
            raise ValueError(f"{name} is {value!r:.80}, not {what}")


@contextmanager
def made_of(folder: str | Path) -> Iterator[None]:
    """Within this block a model is made of what a folder holds; what its class refuses is told with the folder.

    Raises:
        ValueError: in place of the class's own error.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{folder}: no model can be made of it ({reason:.400}): {SAVE_AGAIN}.") from error
