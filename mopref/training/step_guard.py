"""StepGuard: all that is looked at between a forward and the optimiser's step, in the order that a step has it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mopref.gradients.gramian import gramians
from mopref.gradients.weighting import GradientWeighting
from mopref.objective import Losses, Objective, Update
from mopref.preference_groups import refuse_empty_groups
from mopref.scalarizer import Scalarizer
from mopref.training.gradient_norm import SkippedSteps, clip_gradients
from mopref.training.sharding import average_gradients, has_sharded_base
from mopref.training.step_checks import check_gradients, check_losses, check_scalarized, check_total, check_weights
from mopref.training.step_faults import Forward, check_finite_gramians, check_finite_losses, check_finite_step

__all__ = ["StepGuard", "of_all_processes"]

# Larger buffers are a quantised base's weights, which no forward changes.
_LARGEST_STATISTIC = 2**20


def of_all_processes(accelerator: Accelerator, own: Tensor) -> Tensor:
    """A tensor of every process, of the same shape on each: ``(P, …)``."""
    if accelerator.num_processes == 1:
        return own.unsqueeze(0)
    everyone: Tensor = accelerator.gather(own.unsqueeze(0).contiguous())
    return everyone


class StepGuard:
    """Refuses a step that would spoil the weights, and tells what keeps others from learning.

    Args:
        model: the model itself.
        objective: what is minimised.
        scalarizer: makes one loss of the m.
        accelerator: the run's.

    Attributes:
        is_sharded: whether the base is shared out among processes, and gradients are averaged here.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        scalarizer: Scalarizer | GradientWeighting,
        accelerator: Accelerator,
    ) -> None:
        self._model, self._objective, self._scalarizer = model, objective, scalarizer
        self._accelerator, self._skipped, self._adapters_checked = accelerator, SkippedSteps(), False
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.is_sharded = accelerator.num_processes > 1 and has_sharded_base(model)

    def gathered(self, losses: Losses, update: Update, step: int) -> tuple[Tensor, Tensor]:
        """The losses ``(G, m)`` of every process, and their preferences: ``(N, m)`` each, without a gradient.

        Raises:
            ValueError: another shape, or a group without any row labelled on some objective.
            FloatingPointError: a loss that is not finite, on whatever process, so that all stop together.
        """
        values, preferences = losses.values, update.preferences
        check_losses(values, preferences, self._objective)
        if losses.weights is not None:
            check_weights(losses.weights, values, self._objective)
            refuse_empty_groups(losses.weights, self._objective.names)
        everyone = values.detach()
        if self._accelerator.num_processes > 1:
            pair = of_all_processes(self._accelerator, torch.stack([everyone, preferences.to(everyone)]))
            everyone, preferences = pair.transpose(0, 1).flatten(1, 2)
        check_finite_losses(values, everyone, update, self._objective, step)
        return everyone, preferences

    def scalarized(self, losses: Tensor, update: Update, step: int) -> Tensor:
        """One loss for each preference, ``(G, m)`` to ``(G,)``.

        Raises:
            ValueError: another shape.
            FloatingPointError: under a gradient weighting, the gradient of a loss that is not finite.
        """
        if isinstance(self._scalarizer, GradientWeighting):
            table = gramians(losses, self._model.parameters())
            check_finite_gramians(table, losses, self._model.parameters(), update, self._objective, step)
            return (self._scalarizer(losses.detach(), table, update.preferences) * losses).sum(dim=-1)
        scalarized = self._scalarizer(losses, update.preferences)
        check_scalarized(scalarized, losses, self._scalarizer)
        return scalarized

    def total(self, mean: Tensor, auxiliary: Tensor | None) -> Tensor:
        """The number to descend on: the mean of the scalarized losses, and the auxiliary loss.

        Raises:
            ValueError: not one number, or one without a gradient.
        """
        return self.checked_total(mean if auxiliary is None else mean + auxiliary)

    def checked_total(self, total: Tensor) -> Tensor:
        """The number itself; raises as :meth:`total`."""
        check_total(total, self._objective)
        return total

    @contextmanager
    def kept_statistics(self) -> Iterator[None]:
        """Put the model's running statistics and counters back after this block."""
        small = [buffer for buffer in self._model.buffers() if buffer.numel() <= _LARGEST_STATISTIC]
        before = [buffer.clone() for buffer in small]
        try:
            yield
        finally:
            for buffer, value in zip(small, before, strict=True):
                buffer.copy_(value)

    def trained_parameters(self) -> list[nn.Parameter]:
        """What gradients are of."""
        return self._trained

    def clip_gradients(self, forwards: Sequence[Forward], limit: float | None, step: int) -> Tensor:
        """Scale the step's gradients down to a norm, and return the one that they had.

        Raises:
            ValueError: no adapter has a gradient.
            FloatingPointError: a gradient, a scalarized or an auxiliary loss that is not finite.

        Warns:
            UserWarning: some adapters have no gradient, once.
        """

        def is_finite(norm: Tensor) -> bool:
            parts = {"accelerator": self._accelerator, "model": self._model, "objective": self._objective}
            return check_finite_step(norm, forwards, scalarizer=self._scalarizer, step=step, **parts)

        if self.is_sharded:
            average_gradients(self.trained_parameters())
        if not self._adapters_checked:
            self._adapters_checked = check_gradients(getattr(self._model, "adapters", {}))
        return clip_gradients(self._accelerator, self._trained, limit, is_finite)

    def numbers(self, forwards: Sequence[Forward], rate: float, norm: Tensor) -> Tensor:
        """After the optimiser's step, what is logged of it: ``[scalarized loss, m losses, learning rate, norm]``.

        Warns:
            UserWarning: fp16's scaler skips one step after another, once.
        """
        dtype, device = torch.get_default_dtype(), norm.device
        scalarized = _mean([forward.mean.to(device, dtype) for forward in forwards])
        losses = _mean([forward.losses.mean(dim=0).to(device, dtype) for forward in forwards])
        norm = self._skipped.known_norm(self._accelerator, norm)
        return torch.cat([scalarized, losses, torch.tensor([rate], device=device), norm.to(dtype)])


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else reduce(torch.add, parts) / len(parts)
