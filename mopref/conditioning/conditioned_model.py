"""ConditionedModel: what every network with a preference shares, which is how it is called."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from mopref._checked_files import is_readable_text
from mopref._repr import short_repr
from mopref.argument_kinds import checked_kind, checks_arguments
from mopref.conditioning.wrapping import refuse_single_text
from mopref.objective_names import check_same_names, numbered_names
from mopref.preferences import validate_preferences
from mopref.setting_types import check_numbers

__all__ = ["ConditionedModel", "check_objectives", "objective_names", "weight_like"]


class ConditionedModel(nn.Module):
    """A network that is called as ``model(*inputs, preferences=λ)``; row i of the output is under row i of λ.

    λ is ``(B, m)`` with one preference for each row of the inputs, or ``(m,)`` or ``(1, m)`` with one for all. Every
    conditioning is such a network, so that one takes another's place.

    Args:
        objectives: the names of the m objectives in the order of a preference, or their number m.

    Attributes:
        objectives: the names of the objectives, in the order of a preference.

    Raises:
        ValueError: no objective, or a name that is there twice.
    """

    # Ends the message of a missing preference, where a model can be called without one.
    _without_preferences: ClassVar[str] = ""

    @checks_arguments(but=("objectives",))
    def __init__(self, objectives: int | Sequence[str]) -> None:
        super().__init__()
        self.objectives = objective_names(objectives)

    @property
    def num_objectives(self) -> int:
        """The number of objectives m."""
        return len(self.objectives)

    def checked(self, preferences: Any, like: Tensor) -> Tensor:
        """The preferences as ``(1 or B, m)`` on the device and in the type of ``like``.

        Raises:
            ValueError: no preferences, or some that do not lie on the simplex.
        """
        if preferences is None:
            raise ValueError(
                f"preferences are missing: give one weight for each of {', '.join(self.objectives)}, as in "
                f"model(..., preferences=λ){self._without_preferences}."
            )
        return validate_preferences(preferences, self.objectives).to(like)

    def extra_repr(self) -> str:
        """The objectives, for ``print(model)``."""
        return f"objectives={self.objectives}"


def objective_names(objectives: int | Sequence[str]) -> tuple[str, ...]:
    """The names of the objectives; f1 … fm where only their number is given.

    Raises:
        ValueError: no objective, one text instead of a list, a name that is there twice, or one with control
            characters in it.

    Example:
        >>> objective_names(2)
        ('f1', 'f2')
    """
    refuse_single_text("objectives", objectives)
    if isinstance(objectives, int):
        check_numbers({"objectives": objectives})
        objectives = numbered_names(objectives)
    names: Sequence[str] = checked_kind(objectives, Sequence[str], "objectives")
    if not all(isinstance(name, str) for name in names) or not 0 < len(set(names)) == len(names):
        raise ValueError(f"objectives are {short_repr(names)}: give at least one name, each once, or their number.")
    for name in names:
        if not is_readable_text(name):
            raise ValueError(
                f"objectives hold {name!r:.80}, which has control characters in it: choose a name without them."
            )
    return tuple(names)


def check_objectives(model: nn.Module, names: Sequence[str], whose: str) -> None:
    """Refuse a conditioned model, or one inside ``model``, with other objectives, or with the same in another order.

    Args:
        model: any module; one that is not conditioned by this library has no names to be compared.
        names: the names it is used with, in the order of a preference.
        whose: who has these names, for the message.

    Raises:
        ValueError: names that differ, or come in another order.
    """
    for part in model.modules():
        if isinstance(part, ConditionedModel):
            check_same_names(names, whose, part.objectives, "the model")
            return


def weight_like(model: nn.Module) -> Tensor:
    """A floating-point parameter of the model, by whose device and type new ones are made.

    Raises:
        ValueError: the model has none.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter
    raise ValueError(f"{type(model).__name__} has no floating-point parameter: there is nothing to condition.")
