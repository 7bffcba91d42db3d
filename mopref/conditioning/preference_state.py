"""The preference in force: one record that all adapters of a model read, set at each forward."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import RLock
from typing import Any, Literal, Self, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["Layout", "PreferenceState"]

# Where a layer's activations have the rows of the batch: in their first dimension, alone or with the tokens, or in
# their second, behind the tokens. "mixed" is neither: a router's choice of tokens, images, rows times heads.
Layout: TypeAlias = Literal["rows first", "tokens first", "mixed"]


class PreferenceState:
    """The preference in force, shared by all adapters of a model: rows ``(B, m)``, or one row for the whole batch.

    It stays in force until the next forward sets another: a backward pass may need it again.

    Forwards of several threads take turns by :attr:`turn`, since all of them read this one record.

    Attributes:
        generating: whether rows may repeat, for beams and samples.
        enabled: whether adapters act.
        token_counts: how many tokens a row of this forward's inputs has; more than one number where a model has an
            encoder and a decoder, none where the inputs are no sequences of tokens.
    """

    def __init__(self) -> None:
        self.generating = False
        self.enabled = True
        self.token_counts: tuple[int, ...] = ()
        # Gates that generation needs again for its next token, by layer and number of rows.
        self.gates: dict[tuple[nn.Module, int], Tensor] = {}
        self.preferences = None
        self._lock = RLock()

    @property
    def turn(self) -> AbstractContextManager[Any]:
        """Within this context no other thread runs a forward, so that none changes the preference of this one."""
        # Compiled code has no locks, and is for one thread.
        return nullcontext() if torch.compiler.is_compiling() else self._lock

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=RLock())

    @property
    def preferences(self) -> Tensor | None:
        """The preference in force; setting another drops the gates of the one before."""
        return self._preferences

    @preferences.setter
    def preferences(self, preferences: Tensor | None) -> None:
        self._preferences = preferences
        self.gates.clear()

    @contextmanager
    def generation(self) -> Iterator[None]:
        """Within this block rows may repeat, for beams and samples, and gates are kept from token to token."""
        self.generating = True
        try:
            yield
        finally:
            self.generating = False
            # The parameters may change before the next one.
            self.gates.clear()

    @contextmanager
    def in_force(self, preferences: Tensor | None, enabled: bool, token_counts: tuple[int, ...]) -> Iterator[None]:
        """Within this block another preference holds; afterwards, also after an error, the one before."""
        previous = (self.preferences, self.enabled, self.token_counts)
        self.preferences, self.enabled, self.token_counts = preferences, enabled, token_counts
        try:
            yield
        finally:
            self.preferences, self.enabled, self.token_counts = previous

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The preference in force may hang on a graph, which cannot be copied, and a copy has run no forward.
        state = type(self)()
        memo[id(self)] = state
        return state

    def rows(self, shape: Sequence[int], layout: Layout = "rows first", layer: str = "a layer") -> Tensor:
        """The preferences of an activation, ``(1, m)`` or one for each of its rows.

        A layer that sees rows and tokens in one dimension, (rows · tokens) of them in order, gets each row's
        preference once for each of its tokens.

        Args:
            shape: of the activation.
            layout: where it has the rows of the batch.
            layer: what messages call the layer.

        Raises:
            ValueError: no preference is in force, another number of them than of rows, or several where rows are mixed.
        """
        if self.preferences is None:
            raise ValueError(
                "no preference is set: call model(..., preferences=λ), or use `with model.disabled()` for the base."
            )
        given = self.preferences.shape[0]
        if given == 1:
            return self.preferences
        if layout == "mixed":
            raise ValueError(
                f"{given} preferences were given, but {layer} sees {shape[0]} rows that are not those of the batch (a "
                "router's choice of tokens, images, …): give a single preference for all, or leave that layer out of "
                "target_modules."
            )
        count = shape[1] if layout == "tokens first" and len(shape) > 2 else shape[0]
        if count == given:
            return self.preferences
        flat = len(shape) == 2 and layout == "rows first"
        if flat and any(count == given * tokens for tokens in self.token_counts):
            return self.preferences.repeat_interleave(count // given, dim=0)
        # Elsewhere than in generation a row count that differs is an error.
        if self.generating and count % given == 0:
            return self.preferences.repeat_interleave(count // given, dim=0)
        raise ValueError(
            f"{given} preferences were given, but {layer} sees {count} rows: give one preference for each row of the "
            "batch, or a single one for all; a layer that mixes the rows of a batch can take only a single one."
        )

    @staticmethod
    def beside(values: Tensor, ndim: int, layout: Layout = "rows first") -> Tensor:
        """What belongs to rows ``(1 or B, k)``, in the shape that multiplies an activation of so many dimensions.

        Example:
            >>> PreferenceState.beside(torch.zeros(5, 2), 3).shape
            torch.Size([5, 1, 2])
            >>> PreferenceState.beside(torch.zeros(5, 2), 3, "tokens first").shape
            torch.Size([1, 5, 2])
        """
        if ndim == 1:
            return values[0]
        if layout == "tokens first" and ndim > 2:
            return values.view(1, values.shape[0], *[1] * (ndim - 3), values.shape[1])
        return values.view(values.shape[0], *[1] * (ndim - 2), values.shape[1])
