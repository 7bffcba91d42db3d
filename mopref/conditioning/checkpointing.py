"""Gradient checkpointing in a base model: each block is recomputed under the preference of its own forward."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

from torch import nn

from mopref.conditioning.preference_state import PreferenceState

__all__ = ["ActivationCheckpointing"]


class ActivationCheckpointing:
    """Recomputes activations in the backward pass, whatever other forwards ran since, in this thread or in others.

    Args:
        base_model: a model of transformers, or another with its two methods of gradient checkpointing.
        state: holds the preference in force.
    """

    def __init__(self, base_model: nn.Module, state: PreferenceState) -> None:
        self.base_model, self.state = base_model, state
        self._is_enabled = False

    def enable(self) -> None:
        """Switch it on in the base model."""
        if self._is_enabled:
            return
        base = cast(Any, self.base_model)
        # Non-reentrant checkpoints ask for their contexts at every forward: there the preference is remembered.
        settings = {"use_reentrant": False, "context_fn": self._contexts}
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable(settings)
        self._is_enabled = True

    def disable(self) -> None:
        """Keep activations in memory again."""
        base = cast(Any, self.base_model)
        (getattr(base, "activation_checkpointing_disable", None) or base.gradient_checkpointing_disable)()
        self._is_enabled = False

    def take_over(self) -> None:
        """Where it was switched on at the base itself, the preference of a recomputed block is known from here on."""
        # Asked of the blocks, since the models' own property differs between releases of transformers.
        if not self._is_enabled and any(
            getattr(module, "gradient_checkpointing", False) for module in self.base_model.modules()
        ):
            self.enable()

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _ReusableContext(partial(self.state.recomputation, self.state.record))


class _ReusableContext(AbstractContextManager[None]):
    """A context for every backward pass through one graph: what ``contextmanager`` makes can be entered only once."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self.make = make

    def __enter__(self) -> None:
        self.current = self.make()
        self.current.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self.current.__exit__(*error)
