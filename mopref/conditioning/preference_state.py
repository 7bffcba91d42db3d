"""The preference in force: one record that all adapters of a model read, set at each forward."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import RLock, local
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import torch
from torch import Tensor, nn

from mopref.conditioning.packed_weights import PackedWeights

__all__ = ["Layout", "PreferenceRecord", "PreferenceState", "check_indices"]

# Where a layer's activations have the rows of the batch: in their first dimension, alone or with the tokens, or in
# their second, behind the tokens. "mixed" is neither: a router's choice of tokens, images, rows times heads.
Layout: TypeAlias = Literal["rows first", "tokens first", "mixed"]


class PreferenceRecord(NamedTuple):
    """What the adapters of a model go by in one forward.

    Attributes:
        preferences: rows ``(B, m)``, or one row for the whole batch; ``None`` where no preference was set yet.
        enabled: whether adapters act.
        token_counts: how many tokens a row of this forward's inputs has; more than one number where a model has an
            encoder and a decoder, none where the inputs are no sequences of tokens.
        preference_indices: ``(C, L)``, which of the preferences each token of the inputs is under; ``None`` where
            preferences belong to rows.
        strengths: ``(B, 1)``, what the adapters' change of each row is multiplied with; ``None`` for 1.
    """

    preferences: Tensor | None = None
    enabled: bool = True
    token_counts: tuple[int, ...] = ()
    preference_indices: Tensor | None = None
    strengths: Tensor | None = None


def check_indices(indices: Tensor, inputs: tuple[int | None, tuple[int, ...]], preferences: int) -> None:
    """Refuse what does not say for each token of a model's inputs which of so many preferences it is under.

    Args:
        indices: to be ``(B, T)``.
        inputs: the number of rows, and the numbers of tokens of a row.
        preferences: how many there are.

    Raises:
        ValueError: another shape, or numbers that are none of 0 … preferences − 1.
    """
    rows, counts = inputs
    if indices.is_floating_point() or indices.ndim != 2 or (len(indices), (indices.shape[1],)) != (rows, counts):
        raise ValueError(
            f"preference_indices have shape {tuple(indices.shape)} and type {indices.dtype}, but the inputs have "
            f"{rows} rows of {' or '.join(map(str, counts)) or 'no'} tokens: give a whole number for each token."
        )
    lowest, highest = int(indices.min()), int(indices.max())
    if lowest < 0 or highest >= preferences:
        raise ValueError(
            f"preference_indices go from {lowest} to {highest}, but there are {preferences} preferences: give numbers "
            f"from 0 to {preferences - 1}."
        )


class PreferenceState:
    """The preference in force, shared by all adapters of a model: rows ``(B, m)``, or one row for the whole batch.

    It stays in force until the next forward sets another: a backward pass may need it again.

    Forwards of several threads take turns by :attr:`turn`, since all of them read this one record. A backward pass that
    recomputes activations takes no turn: within :meth:`recomputation` its thread alone sees the record of its forward.

    Attributes:
        generating: whether rows may repeat, for beams and samples.
        packed_weights: what generation takes frozen weights from, where they are there packed; or ``None``.
    """

    def __init__(self) -> None:
        self.generating = False
        self.packed_weights: PackedWeights | None = None
        # Gates that generation needs again for its next token, by layer and number of rows.
        self.gates: dict[tuple[nn.Module, int], Tensor] = {}
        # What a layer multiplies its next token with, by layer and the shape of its input.
        self.products: dict[tuple[nn.Module, torch.Size], Any] = {}
        self._record = PreferenceRecord()
        self._lock, self._of_thread = RLock(), local()

    @property
    def turn(self) -> AbstractContextManager[Any]:
        """Within this context no other thread runs a forward, so that none changes the preference of this one."""
        # Compiled code has no locks, and is for one thread.
        return nullcontext() if torch.compiler.is_compiling() else self._lock

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_lock", "_of_thread", "packed_weights")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, packed_weights=None, _lock=RLock(), _of_thread=local())

    @property
    def record(self) -> PreferenceRecord:
        """What this thread's forward, or its recomputation of an earlier one, goes by."""
        # Compiled code has its own way to recompute, in which the record is a constant.
        of_thread = None if torch.compiler.is_compiling() else getattr(self._of_thread, "record", None)
        return self._record if of_thread is None else of_thread

    @property
    def preferences(self) -> Tensor | None:
        """The preference in force."""
        return self.record.preferences

    @property
    def enabled(self) -> bool:
        """Whether adapters act."""
        return self.record.enabled

    def set(self, record: PreferenceRecord) -> None:
        """Put another record in force, and drop the gates of the one before."""
        self._record = record
        self._forget()

    def _forget(self) -> None:
        self.gates.clear()
        self.products.clear()

    @contextmanager
    def generation(self) -> Iterator[None]:
        """Within this block rows may repeat, for beams and samples, and gates are kept from token to token."""
        self.generating = True
        try:
            yield
        finally:
            self.generating = False
            # The parameters may change before the next one.
            self._forget()

    @contextmanager
    def in_force(self, record: PreferenceRecord) -> Iterator[None]:
        """Within this block another record holds, for all threads; afterwards, also after an error, the one before."""
        previous = self._record
        self.set(record)
        try:
            yield
        finally:
            self.set(previous)

    @contextmanager
    def recomputation(self, record: PreferenceRecord) -> Iterator[None]:
        """Within this block this thread sees the record of an earlier forward, and all others what is in force."""
        previous = getattr(self._of_thread, "record", None)
        self._of_thread.record = record
        try:
            yield
        finally:
            self._of_thread.record = previous

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
        preferences = self.record.preferences
        if preferences is None:
            raise ValueError(
                "no preference is set: call model(..., preferences=λ), or use `with model.disabled()` for the base."
            )
        return self._spread(preferences, shape, layout, layer)

    def scaled(self, gate: Tensor, shape: Sequence[int], layout: Layout, layer: str = "a layer") -> Tensor:
        """Gates ``(1 or B, k)`` of an activation's rows, each times its row's strength; the same where none is set."""
        strengths = self.record.strengths
        return gate if strengths is None else gate * self._spread(strengths, shape, layout, layer).to(gate)

    def _spread(self, preferences: Tensor, shape: Sequence[int], layout: Layout, layer: str) -> Tensor:
        """What belongs to the rows of a batch, for those of an activation."""
        token_counts = self.record.token_counts
        given = preferences.shape[0]
        if given == 1:
            return preferences
        if layout == "mixed":
            raise ValueError(
                f"{given} preferences were given, but {layer} sees {shape[0]} rows that are not those of the batch (a "
                "router's choice of tokens, images, …): give a single preference for all, or leave that layer out of "
                "target_modules."
            )
        count = shape[1] if layout == "tokens first" and len(shape) > 2 else shape[0]
        if count == given:
            return preferences
        flat = len(shape) == 2 and layout == "rows first"
        if flat and any(count == given * tokens for tokens in token_counts):
            return preferences.repeat_interleave(count // given, dim=0)
        # Elsewhere than in generation a row count that differs is an error.
        if self.generating and count % given == 0:
            return preferences.repeat_interleave(count // given, dim=0)
        raise ValueError(
            f"{given} preferences were given, but {layer} sees {count} rows: give one preference for each row of the "
            "batch, or a single one for all; a layer that mixes the rows of a batch can take only a single one."
        )

    def of_tokens(self, values: Tensor, shape: Sequence[int], layout: Layout, layer: str = "a layer") -> Tensor:
        """What belongs to preferences ``(K, k)``, for each token of an activation ``(…, n)``: ``(…, k)``.

        Where tokens of one row are under several preferences.

        Raises:
            ValueError: an activation whose tokens are not those of the inputs.
        """
        indices = self.record.preference_indices
        assert indices is not None
        if layout == "rows first" and tuple(shape[:-1]) == (indices.numel(),):
            indices = indices.flatten()
        elif layout == "tokens first":
            indices = indices.T
        if layout == "mixed" or tuple(shape[:-1]) != tuple(indices.shape):
            raise ValueError(
                f"tokens of one row have several preferences, but {layer} sees {tuple(shape)}, which are not the "
                f"{tuple(indices.shape)} tokens of the inputs: give one preference for each row."
            )
        return nn.functional.embedding(indices, values)

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
