"""The norm of a step's gradients, known before they are clipped, and the steps that fp16's scaler skips."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mopref._warning import warn

__all__ = ["SkippedSteps", "clip_gradients"]

# At first a scaler skips a few steps, each with half the scale, until the gradients fit: from 65,536 on, ten in a row
# are a scale of 64, where a gradient of 1,000 would fit still.
_IN_A_ROW = 10
# Up to this share of the limit the factor min(1, limit / (norm + 1e-6)) is 1 in every type, however it is rounded.
_WITHIN = 0.99


def clip_gradients(
    accelerator: Accelerator,
    parameters: Iterable[nn.Parameter],
    limit: float | None,
    is_finite: Callable[[Tensor], bool],
) -> Tensor:
    """Scale gradients down to a norm; it is shown to ``is_finite`` before, which may raise, while they are whole.

    Args:
        accelerator: undoes the scaling of fp16 first.
        parameters: whose gradients.
        limit: the largest norm; ``None`` or infinity for any.
        is_finite: from the norm to whether the step goes on; if not, the gradients are left as they are.

    Returns:
        The norm before the clipping, a scalar.
    """
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if any(hasattr(gradient, "full_tensor") for gradient in gradients):
        # Sharded over processes: accelerate knows how to add up the parts.
        norm = accelerator.clip_grad_norm_(parameters, math.inf if limit is None else limit).detach()
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        is_finite(norm)
        return norm
    accelerator.unscale_gradients()
    norm = _total_norm(gradients)
    if is_finite(norm) and limit is not None and norm.item() + 1e-6 > _WITHIN * limit:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def _total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """``get_total_norm`` of torch; of one type on a CPU by the same kernels, without its sorting by device and type."""
    if len({(gradient.device, gradient.dtype) for gradient in gradients}) == 1 and gradients[0].is_cpu:
        norm = torch.linalg.vector_norm
        return norm(torch.stack([norm(gradient) for gradient in gradients]))
    return torch.nn.utils.get_total_norm(gradients)


class SkippedSteps:
    """Steps that fp16's scaler skips, since gradients overflow in half precision; told where they go on."""

    def __init__(self) -> None:
        self._in_a_row, self._told = 0, False

    def known_norm(self, accelerator: Accelerator, norm: Tensor) -> Tensor:
        """The norm, shape ``(1,)``; NaN where the optimiser's step was skipped, by which the log counts such steps.

        Warns:
            UserWarning: ten steps in a row were skipped, or the scale fell below 1; once.
        """
        if not accelerator.optimizer_step_was_skipped:
            self._in_a_row = 0
            return norm.view(1)
        self._in_a_row += 1
        scale = math.inf if accelerator.scaler is None else accelerator.scaler.get_scale()
        if not self._told and (self._in_a_row >= _IN_A_ROW or scale < 1):
            self._told = True
            warn(
                f"{self._in_a_row} steps in a row were skipped, since gradients are not finite in fp16 (the scale of "
                f"the loss is {scale:g} now): nothing was learned in them. Choose mixed_precision='bf16' or None, or a "
                "lower learning rate; or look for losses or weights that are too large for half precision (65,504).",
            )
        return torch.full_like(norm, math.nan).view(1)
