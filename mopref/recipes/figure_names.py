"""Whether the objectives' names can stand beside the figures that a run measures, in commands and in folders."""

from collections.abc import Iterator, Sequence

from mopref.conditioning.lora_names import check_set_names
from mopref.front.files import COUNT_COLUMN
from mopref.recipes.mistakes import RecipeError, settings_at

__all__ = ["check_compared_names", "check_export_names", "check_figure_names"]

_EACH = ("accuracy", "margin", "win_rate", "standard_error", "preference")
_SINGLE = ("kl", "sampled_length", "mean_response_length", "truncated", COUNT_COLUMN)
# The other columns of a table of compared methods.
_COMPARED = ("method", "seed", "hypervolume")
_BOUNDS = ("_low", "_high")
# What a preference in a command, and a folder of a LoRA, cannot hold.
_SIGNS = ",=/\\"


def check_export_names(names: Sequence[str], gate: str = "linear") -> None:
    """Refuse names after which a trained model's LoRAs could not be called, before it is trained.

    Args:
        names: of the objectives.
        gate: of its adapters; that of all layers makes LoRAs of directions.

    Raises:
        RecipeError: as ``check_set_names`` refuses them.
    """
    with settings_at("objectives", []):
        check_set_names(names, has_directions=gate == "shared-mlp")


def check_figure_names(names: Sequence[str]) -> None:
    """Refuse names that another figure has, such as "kl", and those that cannot be written in commands and folders.

    Raises:
        RecipeError: such a name.
    """
    if len(names) < 2:
        raise RecipeError(
            "objectives", f"is {list(names)}: there is a balance between two objectives or more only, so give another."
        )
    for name in names:
        sign = next((sign for sign in name if sign in _SIGNS or not sign.isprintable()), None)
        if sign is not None or name != name.strip():
            what = f"{sign!r} in it" if sign is not None else "a blank at an end"
            raise RecipeError(
                "objectives",
                f"holds {name!r}: a name with {what} cannot be used in commands and files; choose another.",
            )
    owners: dict[str, str] = {}
    for figure in (*_SINGLE, *names, *_figures(names)):
        for column in (figure, *(figure + bound for bound in _BOUNDS)):
            if column in owners:
                clash = next(one for one in (figure, owners[column], *names) if one in names)
                raise RecipeError(
                    "objectives",
                    f"holds {clash!r}: a figure of another kind is called {column!r}, too, so choose another name.",
                )
            owners[column] = figure


def check_compared_names(names: Sequence[str]) -> None:
    """Refuse names that a column has in which compared methods are told, such as "seed".

    Raises:
        RecipeError: such a name.
    """
    columns = (*_COMPARED, *(f"reference_point_{name}" for name in names))
    for name in names:
        if name in columns:
            raise RecipeError(
                "objectives",
                f"holds {name!r}: compared methods are told with a column {name!r}, so choose another name.",
            )


def _figures(names: Sequence[str]) -> Iterator[str]:
    """The columns that a front may have for each objective."""
    for kind in _EACH:
        yield from (f"{kind}_{name}" for name in names)
