"""What is wrong with a recipe, as one sentence: where, which value, why, and the way out."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["RecipeError", "RunFolderError", "joined", "nearest", "raised_by", "settings_at"]


class RecipeError(ValueError):
    """A setting that cannot be.

    Args:
        key: the setting, such as "training.steps"; empty where it is the whole recipe.
        problem: what is wrong with it, such as "is 0: it must be at least 1.", or ": this setting is missing."
        place: what stands before the key, such as "recipe.yaml, " or "--".

    Example:
        >>> print(RecipeError("training.steps", "is 0: it must be at least 1.", "recipe.yaml, "))
        recipe.yaml, training.steps is 0: it must be at least 1.
    """

    def __init__(self, key: str, problem: str, place: str = "") -> None:
        self.key, self.problem, self.place = key, problem, place
        before = place if key else place.removesuffix(", ")
        super().__init__(f"{before}{key}{'' if problem.startswith(':') or not before + key else ' '}{problem}")


class RunFolderError(ValueError):
    """A run's folder that is taken, incomplete, or another run's."""


def nearest(word: str, known: Iterable[str], key: str = "") -> str:
    """The end of a sentence that names the known word most like this one; all of them where none is like it.

    Example:
        >>> nearest("stepz", ["steps", "epochs"], "training.")
        'did you mean training.steps?'
        >>> nearest("colour", ["steps", "epochs"])
        'there are steps, epochs.'
    """
    names = list(known)
    like = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {key}{like[0]}?" if like else f"there are {', '.join(names)}."


def joined(key: str, name: object) -> str:
    """The key of a setting within a section.

    Example:
        >>> joined("training", "steps"), joined("", "seed")
        ('training.steps', 'seed')
    """
    return f"{key}.{name}" if key else str(name)


def raised_by(error: BaseException) -> str:
    """The package whose code raised an error; empty where it was never raised."""
    traceback, name = error.__traceback__, ""
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return name.partition(".")[0]


@contextmanager
def settings_at(key: str, names: Iterable[str]) -> Iterator[None]:
    """Within this block what a part refuses is a mistake of the settings at ``key``, which have these names.

    Raises:
        RecipeError: in place of a ``ValueError`` or ``TypeError``; its key is the setting that the message begins with,
            else ``key``.
    """
    try:
        yield
    except RecipeError:
        raise
    except (ValueError, TypeError) as error:
        message = str(error)
        first, _, rest = message.partition(" ")
        if first in set(names) and rest:
            raise RecipeError(joined(key, first), rest) from error
        raise RecipeError(key, f": {message}") from error
