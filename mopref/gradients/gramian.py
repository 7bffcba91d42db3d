"""Gramians J Jᵀ of each preference group's m losses, without holding all gradients at once."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mopref.argument_kinds import checked_kind, checks_arguments
from mopref.setting_types import python_value

__all__ = ["cosines", "gramians"]

# Gradient entries held at once by default: 64 MiB in float32.
_ENTRIES_AT_ONCE = 2**24


@checks_arguments
def gramians(losses: Tensor, parameters: Iterable[Tensor], groups_at_once: int | None = None) -> Tensor:
    """⟨∇f_i, ∇f_j⟩ of each group's losses in the parameters: losses ``(G, m)`` to ``(G, m, m)``.

    The graph is kept for the backward pass that follows, and no ``.grad`` is touched. Products are summed in float64,
    since a small gradient of conflicting losses is the difference of large ones.

    This costs G·m backward passes over the whole batch, batched over the losses of some groups at a time; where an
    operation of the model does not allow that, one after the other. Few groups a step are cheaper than many.

    Args:
        losses: mean losses of each group, with their graph, ``(G, m)``.
        parameters: what the gradients are taken in; those that require no gradient are left out, and those that a
            loss does not depend on count as zeros.
        groups_at_once: groups whose gradients are held in memory together; ``None`` for as many as make 2²⁴ entries,
            at least one.

    Returns:
        A float64 tensor without a graph, on the device of the losses.

    Raises:
        ValueError: losses of another shape or without a graph, no parameter that requires a gradient, or
            ``groups_at_once`` below 1.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gramians(torch.stack([x.square().sum(), x.sum()]).unsqueeze(0), [x])
        tensor([[[20.,  6.],
                 [ 6.,  2.]]], dtype=torch.float64)
    """
    if losses.ndim != 2 or 0 in losses.shape or not losses.requires_grad:
        raise ValueError(
            f"losses have shape {tuple(losses.shape)} and requires_grad={losses.requires_grad}: give the losses (G, m) "
            "as the objective returns them, not detached and not under torch.no_grad()."
        )
    parameters = [checked_kind(p, Tensor, f"parameters[{place}]") for place, p in enumerate(parameters)]
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if not trainable:
        raise ValueError("none of the parameters requires a gradient: there is nothing to take gradients in.")
    groups, m = losses.shape
    if groups_at_once is None:
        groups_at_once = max(1, _ENTRIES_AT_ONCE // (m * sum(parameter.numel() for parameter in trainable)))
    if python_value(groups_at_once, int, "groups_at_once") < 1:
        raise ValueError(f"groups_at_once is {groups_at_once}: at least one group is needed at a time.")
    result = torch.zeros(groups, m, m, dtype=torch.float64, device=losses.device)
    at_once = True
    for start in range(0, groups, groups_at_once):
        chunk = losses[start : start + groups_at_once]
        if at_once:
            try:
                gradients = _gradients_at_once(chunk, trainable)
            except RuntimeError:
                # Some operation has no batched backward pass; an error of another kind shows again below.
                at_once = False
        if not at_once:
            gradients = _gradients_one_by_one(chunk, trainable)
        for gradient in gradients:
            if gradient is not None:
                # Zeros that stand for no gradient ask for one of their own in older versions of PyTorch.
                rows = gradient.detach().reshape(*chunk.shape, -1).to(result)
                result[start : start + groups_at_once] += rows @ rows.mT
    return result


@checks_arguments
def cosines(gramians: Tensor) -> Tensor:
    """The cosines of the angles between gradients, −1 to 1: Gramians ``(…, m, m)`` to ``(…, m, m)``.

    Below 0 a step down one loss raises the other. Of a gradient that is 0 they are NaN.

    Raises:
        ValueError: no square matrices.

    Example:
        >>> cosines(torch.tensor([[4.0, -1.0], [-1.0, 1.0]]))
        tensor([[ 1.0000, -0.5000],
                [-0.5000,  1.0000]])
    """
    if gramians.ndim < 2 or gramians.shape[-1] != gramians.shape[-2]:
        raise ValueError(f"gramians have shape {tuple(gramians.shape)}: give (…, m, m), as mopref.gradients.gramians.")
    lengths = gramians.diagonal(dim1=-2, dim2=-1).sqrt()
    return (gramians / lengths.unsqueeze(-1) / lengths.unsqueeze(-2)).clamp(-1, 1)


def _gradients_at_once(losses: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Gradients of all entries of the losses ``(k, m)`` in each parameter: ``(k·m, *shape)``, or ``None`` for zeros."""
    entries = torch.eye(losses.numel(), dtype=losses.dtype, device=losses.device).reshape(-1, *losses.shape)
    return torch.autograd.grad(losses, parameters, entries, retain_graph=True, allow_unused=True, is_grads_batched=True)


def _gradients_one_by_one(losses: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The same as :func:`_gradients_at_once`, by one backward pass for each entry."""
    rows = [
        torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True) for loss in losses.reshape(-1)
    ]
    return [torch.stack(column) for column in zip(*rows, strict=True)]
