"""A step whose preferences are shared: the means of all processes and forwards are known before they are scalarized.

With K means f, of which share s of the step has the parts v_s that count w_s (the numbers of labelled rows, say),

    f = Σ_s w_s v_s / Σ_s w_s,   total = mean over the preferences of g(f; λ),

the gradient is Σ_s (∂total/∂f · w_s / Σ w) · ∂v_s: each share descends on its own parts, by factors that all of them
together give. With one forward a step they are known before its backward pass. With several a first pass without
gradients finds them, and a second one, with the same random numbers, descends. The factors of a weighted sum of losses
need no first pass.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from mopref._precision import at_least_float32
from mopref.gradients.weighting import GradientWeighting
from mopref.objective import Losses, Objective, Update
from mopref.preference_groups import refuse_empty_groups
from mopref.sampler import PreferenceSampler
from mopref.scalarizer import Scalarizer
from mopref.scalarizers import Linear
from mopref.training.random_state import kept_random_state
from mopref.training.shares import Layout
from mopref.training.step_checks import check_losses, check_weights
from mopref.training.step_faults import Forward, check_finite_losses
from mopref.training.step_guard import StepGuard, of_all_processes

__all__ = ["JointStep", "needs_joint_step"]


def needs_joint_step(layout: Layout, scalarizer: Scalarizer | GradientWeighting) -> bool:
    """Whether the losses of several shares have to be known before they are scalarized.

    Not where there is one share, and not where each has its preferences for itself and no point is tracked.

    Raises:
        ValueError: a gradient weighting, which needs the gradients of whole means, of which a share has a part.
    """
    if isinstance(scalarizer, GradientWeighting):
        if not layout.is_whole:
            raise ValueError(
                f"{type(scalarizer).__name__} weighs losses by their gradients, but with preferences_per_step = "
                f"{layout.preferences} and {layout.shares} forwards in a step, on all processes, each has a part of "
                f"every loss: make preferences_per_step a multiple of {layout.shares}, or choose a "
                "scalarizer."
            )
        return False
    return layout.shares > 1 and (not layout.is_whole or _keeps_something(scalarizer.state_dict()))


def _keeps_something(state: Any) -> bool:
    """Whether a state has an entry, at whatever depth."""
    return any(map(_keeps_something, state.values())) if isinstance(state, Mapping) else True


class _Joint(NamedTuple):
    """What all shares of a step came to together.

    Attributes:
        forwards: of this process, for the log and the checks.
        factors: what each of its parts weighs in the total, ``(A, groups, m)``.
        totals: Σ w, ``(K, m)``.
    """

    forwards: list[Forward]
    factors: Tensor
    totals: Tensor


class JointStep:
    """Descends on the losses that all shares of a step have together.

    Args:
        layout: who has what.
        objective: what is minimised.
        scalarizer: makes one loss of the m.
        sampler: sees what was reached.
        guard: checks a step.
        accelerator: the run's.
        labelled: which row bears on which objective, ``(rows, m)``, by which weights are known before; or ``None``.
    """

    def __init__(
        self,
        layout: Layout,
        objective: Objective,
        scalarizer: Scalarizer,
        sampler: PreferenceSampler,
        guard: StepGuard,
        accelerator: Accelerator,
        labelled: Tensor | None,
    ) -> None:
        self._layout, self._objective, self._scalarizer, self._sampler = layout, objective, scalarizer, sampler
        self._guard, self._accelerator = guard, accelerator
        # A class derived from it may compute something else.
        self._labelled = labelled if type(scalarizer) is Linear else None

    def descend(
        self,
        updates: Sequence[Update],
        losses_of: Callable[[int, bool], Losses],
        backward: Callable[[int, Tensor], None],
        step: int,
    ) -> list[Forward]:
        """Add this process's share to the gradients.

        Args:
            updates: of this process, one for each forward.
            losses_of: the losses of the forward of that number, and whether for the first time.
            backward: a backward pass of a forward's number, which belongs to its losses.
            step: the number of steps done.
        """
        if len(updates) == 1:
            losses = losses_of(0, True)
            joint = self._join(updates, [losses], step)
            backward(0, self._own_total(losses, joint.factors[0]))
            return joint.forwards
        known = self._factors_before(updates)
        parts = []
        if known is not None:
            factors, totals = known
            for number in range(len(updates)):
                losses = losses_of(number, True)
                check_losses(losses.values, updates[number].preferences, self._objective)
                backward(number, self._own_total(losses, factors[number].to(losses.values.device)))
                parts.append(_without_graph(losses))
            joint = self._join(updates, parts, step)
            if torch.equal(joint.totals.cpu(), totals.cpu()):
                return joint.forwards
            # The objective counts in another way than its rows are labelled: by what it says from now on.
            self._labelled = None
            for parameter in self._guard.trained_parameters():
                parameter.grad = None
        else:
            with kept_random_state(), self._guard.kept_statistics(), torch.no_grad():
                parts = [_without_graph(losses_of(number, True)) for number in range(len(updates))]
            joint = self._join(updates, parts, step)
        for number in range(len(updates)):
            backward(number, self._own_total(losses_of(number, False), joint.factors[number]))
        return joint.forwards

    def _own_total(self, losses: Losses, factors: Tensor) -> Tensor:
        """What a forward's backward pass starts from; gradients are averaged over the processes afterwards."""
        values = at_least_float32(losses.values)
        # What does not count may be anything, and 0 · NaN is NaN.
        values = torch.where(factors == 0, torch.zeros_like(values), values)
        total = (factors.to(values) * values).sum() * self._layout.processes
        if losses.auxiliary is not None:
            total = total + losses.auxiliary / self._layout.forwards
        return self._guard.checked_total(total)

    def _factors_before(self, updates: Sequence[Update]) -> tuple[Tensor, Tensor] | None:
        """Factors and Σ w where both are known before any forward: of a weighted sum of means over labelled rows."""
        if self._labelled is None or not all(update.rows for update in updates):
            return None
        preferences = updates[0].preferences
        if not all(torch.equal(update.preferences, preferences) for update in updates):
            return None
        groups, m = preferences.shape
        rows = torch.tensor([update.rows for update in updates])
        weights = self._labelled[rows].view(len(updates), groups, -1, m).sum(dim=2).double()
        totals = of_all_processes(self._accelerator, weights.sum(dim=0).to(self._accelerator.device)).sum(dim=0).cpu()
        refuse_empty_groups(totals, self._objective.names)
        slopes = preferences.double().cpu() / groups
        return slopes * (weights / totals), totals

    def _join(self, updates: Sequence[Update], parts: Sequence[Losses], step: int) -> _Joint:
        for update, part in zip(updates, parts, strict=True):
            check_losses(part.values, update.preferences, self._objective)
            check_weights(part.weights, part.values, self._objective)
        layout, device = self._layout, parts[0].values.device
        exact = torch.float32 if device.type == "mps" else torch.float64
        weights = torch.stack([_weights(part).to(device, exact) for part in parts])
        values = torch.stack([part.values.detach().to(exact) for part in parts])
        values = torch.where(weights > 0, values, torch.zeros_like(values))
        own = torch.stack([values, weights, torch.stack([update.preferences.to(values) for update in updates])])
        # (P, 3, A, groups, m) to (3, S, groups, m), in the order of the shares.
        everyone = of_all_processes(self._accelerator, own).permute(1, 2, 0, 3, 4).flatten(1, 2)
        self._check_finite(everyone[0], values, updates, step)
        losses, preferences, fractions, totals = self._means(*everyone)
        means = losses.to(at_least_float32(parts[0].values).dtype)
        preferences = preferences.to(updates[0].preferences)
        # Before they are measured from: z ≤ f holds.
        self._scalarizer.observe(means)
        with torch.enable_grad():
            leaf = means.clone().requires_grad_()
            scalarized = self._guard.scalarized(leaf, updates[0]._replace(preferences=preferences), step)
            (slopes,) = torch.autograd.grad(self._guard.total(scalarized.mean(), None), leaf)
        self._sampler.observe(preferences, means, self._scalarizer)
        shares = [layout.share(number) for number in range(layout.forwards)]
        if layout.is_whole:
            slopes, means = (each.view(layout.shares, layout.groups, -1) for each in (slopes, means))
            scalarized = scalarized.view(layout.shares, layout.groups)
        else:
            slopes, means, scalarized = (
                each.expand(layout.shares, *each.shape) for each in (slopes, means, scalarized)
            )
        factors = slopes[shares].to(exact) * fractions[shares]
        forwards = [
            Forward.of(update, means[share], scalarized[share], part.auxiliary)
            for update, part, share in zip(updates, parts, shares, strict=True)
        ]
        return _Joint(forwards, factors, totals)

    def _means(self, values: Tensor, weights: Tensor, preferences: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of all shares ``(S, groups, m)``: means and preferences ``(K, m)``, each share's part in them, and Σ w.

        Raises:
            ValueError: a preference without a labelled row, or shares with other preferences than they were given.
        """
        if self._layout.is_whole:
            totals = weights.flatten(0, 1)
            refuse_empty_groups(totals, self._objective.names)
            return values.flatten(0, 1), preferences.flatten(0, 1), torch.ones_like(weights), totals
        if not torch.equal(preferences, preferences[:1].expand_as(preferences)):
            raise ValueError(
                f"{type(self._objective).__name__}.updates returned other preferences in some forwards or processes "
                "than in others, but these share the rows of the same ones: pass on the preferences that are given."
            )
        totals = weights.sum(dim=0)
        refuse_empty_groups(totals, self._objective.names)
        return (weights * values).sum(dim=0) / totals, preferences[0], weights / totals, totals

    def _check_finite(self, everyone: Tensor, own: Tensor, updates: Sequence[Update], step: int) -> None:
        if everyone.isfinite().all():
            return
        number = next((number for number, part in enumerate(own) if not part.isfinite().all()), 0)
        gathered = everyone.flatten(0, 1)
        check_finite_losses(own[number], gathered, updates[number], self._objective, step)


def _weights(losses: Losses) -> Tensor:
    return torch.ones_like(losses.values) if losses.weights is None else losses.weights


def _without_graph(losses: Losses) -> Losses:
    auxiliary = None if losses.auxiliary is None else losses.auxiliary.detach()
    return losses._replace(values=losses.values.detach(), auxiliary=auxiliary, metrics={})
