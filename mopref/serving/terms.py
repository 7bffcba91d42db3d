"""What an operator allows, and what becomes of a request under it: the row of a batch, or a refusal in a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mopref._repr import quoted_list, short_repr
from mopref.objective_names import checked_names
from mopref.preferences import validate_preferences
from mopref.setting_types import checked_count, python_value

__all__ = ["STRENGTHS", "RefusedError", "Terms"]

# What ΔW may be multiplied with: 0 is the base model, 1 the model as it was trained; beyond 2 it says little.
STRENGTHS = (0.0, 2.0)
# Rounding of a weight beside a bound.
_ROUNDING = 1e-9


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        sentence: what was wrong, why, and what to do.
        param: the field that it is about.
    """

    def __init__(self, status: int, sentence: str, param: str | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.param = status, sentence, param


@dataclass(frozen=True)
class Terms:
    """What may be asked of a served model.

    λ_i = 0 on an objective of safety is a model that was made worse in it on purpose, so an operator can set the least
    weight of an objective. Where one is set, the strength is 1, since another one weakens what the bound is for.

    Args:
        name: the model's name.
        objectives: the names of the m objectives, in the order of a preference.
        context: the most tokens of a prompt and its answer together.
        max_new_tokens: the most tokens of an answer.
        minimums: the least weight of some objectives.
        presets: preferences by name; "balanced" gives all objectives the same weight, unless it is among them.

    Raises:
        ValueError: a bound of no objective, outside [0, 1], or that leaves no preference; a preset that breaks one.
    """

    name: str
    objectives: tuple[str, ...]
    context: int = 4096
    max_new_tokens: int = 512
    minimums: Mapping[str, float] = field(default_factory=dict)
    presets: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "objectives", tuple(checked_names(self.objectives)))
        for name in ("context", "max_new_tokens"):
            object.__setattr__(self, name, checked_count(getattr(self, name), name))
        minimums = {name: python_value(least, float, f"minimums[{name!r}]") for name, least in self.minimums.items()}
        for name, least in minimums.items():
            if name not in self.objectives:
                raise ValueError(
                    f"minimums hold {short_repr(name)}, but the objectives are {quoted_list(self.objectives)}: "
                    "name one of them."
                )
            if not 0 <= least <= 1:
                raise ValueError(f"the minimum of {name} is {least}: a weight lies in [0, 1].")
        if sum(minimums.values()) > 1 + _ROUNDING:
            raise ValueError(
                f"minimums are {minimums}, which sum to more than 1, so that no preference is left: lower them."
            )
        object.__setattr__(self, "minimums", minimums)
        presets: dict[str, tuple[float, ...]] = {}
        for name, weights in self.presets.items():
            presets[name] = self._weights(weights)
            problem = self._bound_problem(presets[name])
            if problem:
                raise ValueError(f"the preset {short_repr(name)} is refused: {problem}")
        balanced = (1 / len(self.objectives),) * len(self.objectives)
        if not self._bound_problem(balanced):
            presets.setdefault("balanced", balanced)
        object.__setattr__(self, "presets", presets)

    def preference(self, asked: Any) -> tuple[float, ...]:
        """The preference that a request asks for, in the order of the objectives.

        Args:
            asked: weights by name or in order, or the name of a preset.

        Raises:
            RefusedError: an unknown preset, weights that are no preference, or one below a bound.
        """
        if isinstance(asked, str):
            if asked not in self.presets:
                known = quoted_list(self.presets) or "none"
                raise RefusedError(
                    400,
                    f"preference is {short_repr(asked)}, and the presets are {known}: name one, or {self.example}.",
                    "preference",
                )
            return tuple(self.presets[asked])
        try:
            weights = self._weights(asked)
        except (ValueError, TypeError) as error:
            raise RefusedError(400, f"{error}", "preference") from error
        problem = self._bound_problem(weights)
        if problem:
            raise RefusedError(403, problem, "preference")
        return weights

    def strength(self, asked: float) -> float:
        """The strength that a request asks for.

        Raises:
            RefusedError: one out of its range, or another than 1 where the operator set bounds.
        """
        if not STRENGTHS[0] <= asked <= STRENGTHS[1]:
            raise RefusedError(400, f"strength is {asked}: it lies in {STRENGTHS[0]:g} … {STRENGTHS[1]:g}.", "strength")
        if self.minimums and asked != 1:
            raise RefusedError(
                403, f"strength is {asked:g}: it is 1 here, since the operator set least weights.", "strength"
            )
        return asked

    def new_tokens(self, asked: int | None, prompt_tokens: int) -> int:
        """The most tokens of an answer.

        Raises:
            RefusedError: a prompt that leaves no room for an answer, or more tokens than are left or allowed.
        """
        left = self.context - prompt_tokens
        if left < 1:
            raise RefusedError(
                400,
                f"the prompt has {prompt_tokens} tokens, and with its answer {self.context} at most: shorten it.",
                "messages",
            )
        if asked is None:
            return min(left, self.max_new_tokens)
        most = min(left, self.max_new_tokens)
        if asked > most:
            raise RefusedError(
                400,
                f"max_tokens is {asked}, and {most} are left: an answer has {self.max_new_tokens} tokens at most, and "
                f"the prompt, of {prompt_tokens}, with its answer {self.context}.",
                "max_tokens",
            )
        return asked

    @property
    def strengths(self) -> tuple[float, float]:
        """The range of strengths that are taken."""
        return (1.0, 1.0) if self.minimums else STRENGTHS

    def by_name(self, preference: Sequence[float]) -> dict[str, float]:
        """A preference with its names."""
        return dict(zip(self.objectives, preference, strict=True))

    @property
    def example(self) -> str:
        """How a preference is given, for a message."""
        return f"give a weight for each of {quoted_list(self.objectives)}"

    def _weights(self, asked: Any) -> tuple[float, ...]:
        rows = validate_preferences(asked, self.objectives)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} preferences were given: give one.")
        return tuple(rows[0].tolist())

    def _bound_problem(self, weights: Sequence[float]) -> str | None:
        for name, weight in zip(self.objectives, weights, strict=True):
            least = self.minimums.get(name, 0.0)
            if weight < least - _ROUNDING:
                return f"the weight of {name} is {weight:g}, and the operator asks for {least:g} at least: raise it."
        return None
