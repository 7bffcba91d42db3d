"""Products of gradients in the space of margins, which need no backward pass through a model: a heuristic."""

import torch
from torch import Tensor

from mopref._masked import labelled_sum
from mopref.argument_kinds import checks_arguments
from mopref.gradients.gramian import gramians
from mopref.llm.pairs.margin_losses import MarginLoss

__all__ = ["margin_gramians"]


@checks_arguments
def margin_gramians(margins: Tensor, labels: Tensor, loss: MarginLoss) -> Tensor:
    """⟨∂L_i/∂d, ∂L_j/∂d⟩ of mean losses of margins alone, ``(G, m, m)``: known from a forward, without a backward pass.

    **A heuristic, in another metric than the model's.** With the Jacobian J of the margins in the parameters, a loss's
    gradient is Jᵀ ∂L_i/∂d, so that its products are ∂L_iᵀ (J Jᵀ) ∂L_j: equal to these where J Jᵀ is the identity,
    that is, where no two pairs share a direction. A model moves pairs together, and losses that are at odds on other
    pairs than each other's may be at odds there and not here, or the reverse. Compare the cosines of both
    (:func:`mopref.gradients.cosines`) on some steps of a training before anything rests on these.

    Args:
        margins: d of R pairs under each of G preferences, ``(G, R)``.
        labels: 0 or 1 for the preferred response, −1 for none, ``(R, m)``, or of each group, ``(G, R, m)``. An
            objective without a label in a group has products of 0.
        loss: ℓ(c · d).

    Returns:
        A float64 tensor without a graph, on the device of the margins.

    Raises:
        ValueError: other shapes, or labels that are none of 0, 1, −1.

    Example:
        >>> margin_gramians(torch.zeros(1, 2), torch.tensor([[0, 1], [0, -1]]), MarginLoss(beta=2.0))
        tensor([[[ 0.5000, -0.5000],
                 [-0.5000,  1.0000]]], dtype=torch.float64)
    """
    if margins.ndim != 2 or 0 in margins.shape:
        raise ValueError(f"margins have shape {tuple(margins.shape)}: give one row for each preference, (G, R).")
    groups, rows = margins.shape
    m = labels.shape[-1] if labels.ndim else 0
    if m == 0 or labels.shape not in ((rows, m), (groups, rows, m)):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} beside margins of shape {tuple(margins.shape)}: give (R, m), or "
            "(G, R, m)."
        )
    if not ((labels == 0) | (labels == 1) | (labels == -1)).all():
        raise ValueError("labels hold something else than 0 or 1 for the preferred response and −1 for none.")
    own = margins.detach().double().requires_grad_()
    labelled = (labels >= 0).expand(groups, rows, m)
    with torch.enable_grad():
        sums = labelled_sum(loss(own, labels.to(own.device)), labelled.to(own.device), dim=1)
        return gramians(sums / labelled.sum(dim=1).clamp(min=1).to(sums), [own])
