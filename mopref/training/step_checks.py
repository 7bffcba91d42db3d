"""Checks of a step: what the objective and the scalarizer return, and in the first one that every adapter learns."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mopref._arrays import refuse_tensor_without_numbers
from mopref._warning import warn
from mopref.objective import Objective

__all__ = ["check_gradients", "check_losses", "check_scalarized", "check_total", "check_weights"]

# How many names of adapters a message shows.
_SHOWN = 4


def check_losses(losses: Tensor, preferences: Tensor, objective: Objective) -> None:
    """Refuse losses that are not ``(G, m)`` for preferences ``(G, m)``.

    Raises:
        TypeError: no tensor.
        ValueError: another shape, or no real numbers.
    """
    if not isinstance(losses, Tensor):
        raise TypeError(
            f"{type(objective).__name__}.losses returned a {type(losses).__name__}: it must return a tensor, one row "
            "for each preference, one column for each objective."
        )
    refuse_tensor_without_numbers(losses, f"what {type(objective).__name__}.losses returned")
    expected = (preferences.shape[0], objective.num_objectives)
    if losses.shape != expected:
        raise ValueError(
            f"{type(objective).__name__}.losses returned shape {tuple(losses.shape)}, not {expected}: one row for each "
            "preference, one column for each objective."
        )


def check_weights(weights: Tensor | None, losses: Tensor, objective: Objective) -> None:
    """Refuse what is no weight of each of the losses ``(G, m)``.

    Raises:
        TypeError: no tensor.
        ValueError: another shape, or weights that are negative or not finite.
    """
    if weights is None:
        return
    whose = f"{type(objective).__name__}.training_losses"
    if not isinstance(weights, Tensor):
        raise TypeError(f"{whose} returned weights of type {type(weights).__name__}: they must be a tensor, or None.")
    if weights.shape != losses.shape:
        raise ValueError(
            f"{whose} returned weights of shape {tuple(weights.shape)} for losses of {tuple(losses.shape)}: one for "
            "each loss."
        )
    if not (weights.isfinite() & (weights >= 0)).all():
        raise ValueError(f"{whose} returned weights that are negative or not finite: give numbers of labelled rows.")


def check_scalarized(scalarized: Tensor, losses: Tensor, scalarizer: Any) -> None:
    """Refuse scalarized losses that are not one number for each of the G preferences of losses ``(G, m)``.

    Raises:
        ValueError: another shape.
    """
    if not isinstance(scalarized, Tensor):
        raise TypeError(
            f"{type(scalarizer).__name__} returned a {type(scalarized).__name__}: it must return a tensor, one number "
            "for each preference."
        )
    refuse_tensor_without_numbers(scalarized, f"what {type(scalarizer).__name__} returned")
    if scalarized.shape != losses.shape[:1]:
        raise ValueError(
            f"{type(scalarizer).__name__} returned shape {tuple(scalarized.shape)}, not {tuple(losses.shape[:1])}: one "
            "number for each preference, over the last dimension of the losses."
        )


def check_total(total: Tensor, objective: Objective) -> None:
    """Refuse what cannot be descended on.

    Raises:
        ValueError: not one number, as with an auxiliary loss for each row, or one without a gradient.
    """
    if total.ndim > 0 or not total.requires_grad:
        wrong = f"have shape {tuple(total.shape)} together" if total.ndim > 0 else "have no gradient"
        raise ValueError(
            f"{type(objective).__name__}'s losses and auxiliary loss {wrong}: they must make one number that depends "
            "on the model's parameters."
        )


def check_gradients(adapters: Mapping[str, nn.Module]) -> bool:
    """Look for adapters that the step's backward passes did not reach.

    A layer that the network never calls, or whose weight the network reads by itself, leaves its adapter untrained:
    no gradient at all, or one that is exactly 0 while others' are not.

    Args:
        adapters: the adapted layers by name, after the backward passes of a step that began without gradients.

    Returns:
        Whether the question is settled: not while all gradients are exactly 0, as under rewards that are all alike.

    Raises:
        ValueError: no adapter has a gradient, so that nothing would be trained.

    Warns:
        UserWarning: some adapters have none; their number and the first of their names.
    """
    trained = {name: [p for p in part.parameters() if p.requires_grad] for name, part in adapters.items()}
    trained = {name: parameters for name, parameters in trained.items() if parameters}
    unreached = [name for name, parameters in trained.items() if all(p.grad is None for p in parameters)]
    if trained and len(unreached) == len(trained):
        raise ValueError(
            f"none of the {len(trained)} adapters ({_first(unreached)}) has a gradient, so nothing would be trained: "
            "the losses must come from a forward of this model with its adapters enabled and gradients on."
        )
    flat = [
        name
        for name, parameters in trained.items()
        if name not in unreached and not any(p.grad is not None and p.grad.any() for p in parameters)
    ]
    if len(flat) + len(unreached) == len(trained):
        return not trained
    for names, reason in ((unreached, "was never reached"), (flat, "has a gradient of exactly 0")):
        if names:
            warn(
                f"in the first step {len(names)} of {len(trained)} adapters had nothing to learn from "
                f"({_first(names)}: each {reason}): the network does not use these layers as it uses others; leave "
                "them out of target_modules, or look for what reads their weights.",
            )
    return True


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
