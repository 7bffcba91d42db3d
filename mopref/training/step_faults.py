"""Numbers of a step that are not finite: looked for before the optimiser moves, and told with where they come from."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, NoReturn, Self

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mopref._agreement import NotFiniteElsewhereError
from mopref._precision import are_finite, at_least_float32
from mopref.gradients.weighting import GradientWeighting
from mopref.objective import Losses, Objective, Update
from mopref.scalarizer import Scalarizer
from mopref.training.batching import GroupBatchSampler
from mopref.training.process_state import own_autocast
from mopref.training.random_state import kept_random_state

__all__ = [
    "Forward",
    "check_finite_gramians",
    "check_finite_losses",
    "check_finite_step",
    "place",
    "taken_back_on_error",
    "told_where",
]

# How many rows and preferences a message shows.
_SHOWN = 8
_REMEDY = "lower the learning rate, clip gradients (max_grad_norm), or look for bad rows in the data"

_SLOPE = (
    "look for an infinite slope (a square root, a logarithm or a division at 0), or for an overflow in the backward "
    "pass of half precision; or lower the learning rate"
)


class Forward(NamedTuple):
    """What one forward of a step came to, without a graph.

    Attributes:
        update: what it was made from.
        losses: ``(G, m)``.
        scalarized: ``(G,)``.
        auxiliary: a scalar, or ``None``.
        mean: of ``scalarized``, shape ``(1,)``.
    """

    update: Update
    losses: Tensor
    scalarized: Tensor
    auxiliary: Tensor | None
    mean: Tensor

    @classmethod
    def of(
        cls, update: Update, losses: Tensor, scalarized: Tensor, auxiliary: Tensor | None, mean: Tensor | None = None
    ) -> Self:
        """The same without their graphs, and the mean where it is not known."""
        mean = scalarized.mean() if mean is None else mean
        auxiliary = None if auxiliary is None else auxiliary.detach()
        return cls(update, losses.detach(), scalarized.detach(), auxiliary, mean.detach().view(1))

    @property
    def total(self) -> Tensor:
        """The number that was descended on, shape ``(1,)``."""
        return self.mean if self.auxiliary is None else self.mean + self.auxiliary


def check_finite_losses(losses: Tensor, gathered: Tensor, update: Update, objective: Objective, step: int) -> None:
    """Refuse losses that are not finite, on all processes together.

    Args:
        losses: this process's, ``(G, m)``.
        gathered: those of all processes, ``(N, m)``.
        update: what they were made from.
        objective: names them.
        step: the number of steps done.

    Raises:
        FloatingPointError: a loss that is not finite, with its name, step, preference and rows.
    """
    if are_finite(gathered):
        return
    faults = ~losses.detach().isfinite()
    if not faults.any():
        index = int((~gathered.isfinite()).nonzero()[0, -1])
        raise FloatingPointError(
            f"the loss {objective.names[index]!r} is not finite on another process at step {step}: its message says "
            f"for which preference and rows. Nothing was updated: {_REMEDY}."
        )
    group, index = (int(i) for i in faults.nonzero()[0])
    raise FloatingPointError(
        f"the loss {objective.names[index]!r} is {losses[group, index].item()} at step {step} "
        f"{place(update.preferences, update.rows, group)}. Nothing was updated: {_remedy(update)}."
    )


def _remedy(update: Update) -> str:
    """What to do; where there are no rows, the fault is in what the objective computes."""
    return _REMEDY if update.rows else _REMEDY.replace("bad rows in the data", "it in what the objective computes")


def check_finite_gramians(
    gramians: Tensor,
    losses: Tensor,
    parameters: Iterable[nn.Parameter],
    update: Update,
    objective: Objective,
    step: int,
) -> None:
    """Refuse gradients of single losses that are not finite, by their Gramians.

    Args:
        gramians: ``(G, m, m)``.
        losses: that they are of, ``(G, m)``, with their graph.
        parameters: of the model.
        update: what the losses were made from.
        objective: names them.
        step: the number of steps done.

    Raises:
        FloatingPointError: such a gradient, with its loss, step, preference and rows.
    """
    if are_finite(gramians):
        return
    faults = _faulty_losses(losses, [parameter for parameter in parameters if parameter.requires_grad])
    cause = _first_fault(faults, update, objective) or f"the losses {place(update.preferences, update.rows)}"
    raise FloatingPointError(
        f"the gradient of {cause} is not finite at step {step}, or its square overflows, though the losses are finite. "
        f"Nothing was updated: {_SLOPE}."
    )


def place(preferences: Tensor, rows: Sequence[int], group: int | None = None) -> str:
    """Where a number belongs, in words: the preference of a group and the rows under it; of all without a group.

    Example:
        >>> place(torch.tensor([[0.25, 0.75], [0.5, 0.5]]), [7, 3, 0, 2], group=1)
        'for preference [0.5, 0.5] (rows 0, 2 of the training data)'
    """
    table = [[round(weight, 4) for weight in row] for row in preferences.tolist()]
    numbers = list(rows)
    if group is not None:
        table = table[group : group + 1]
        if len(numbers) % len(preferences) == 0:
            share = len(numbers) // len(preferences)
            numbers = numbers[group * share : (group + 1) * share]
    shown = ", ".join(map(str, table[:_SHOWN])) + (", …" if len(table) > _SHOWN else "")
    words = f"for preference{'s' * (len(table) > 1)} {shown}"
    if not numbers:
        return words
    listed = ", ".join(map(str, numbers[:_SHOWN])) + (", …" if len(numbers) > _SHOWN else "")
    return f"{words} (row{'s' * (len(numbers) > 1)} {listed} of the training data)"


@contextmanager
def told_where(step: int, preferences: Tensor, rows: Sequence[int]) -> Iterator[None]:
    """Within this block an error about a number that is not finite says the step, the preference and the rows too.

    Those of one prompt where the error knows which it is (``prompt``, its number in the batch).
    """
    try:
        yield
    except NotFiniteElsewhereError as error:
        error.args = (f"{error} (At step {step}; nothing was updated.)",)
        raise
    except FloatingPointError as error:
        prompt, group = getattr(error, "prompt", None), None
        if prompt is not None and rows:
            group = prompt * len(preferences) // len(rows)
            preferences, rows = preferences[group : group + 1], rows[prompt : prompt + 1]
        error.args = (f"{error} (At step {step} {place(preferences, rows)}; nothing was updated.)",)
        raise


@contextmanager
def taken_back_on_error(parts: Sequence[Any], batches: GroupBatchSampler | None) -> Iterator[None]:
    """Parts with a ``state_dict``, and the batches, are after an error in this block as they were before it."""
    states = [_copied(part.state_dict()) for part in parts]
    mark = None if batches is None else batches.mark()
    try:
        yield
    except BaseException:
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        if batches is not None and mark is not None:
            batches.return_to(mark)
        raise


def _copied(state: Any) -> Any:
    """A deep copy; of dictionaries of numbers, as a generator's state is, without a search for what they share."""
    if type(state) is dict:
        return {key: _copied(value) for key, value in state.items()}
    return state if type(state) in (int, float, str) else deepcopy(state)


def check_finite_step(
    norm: Tensor,
    forwards: Sequence[Forward],
    *,
    accelerator: Accelerator,
    model: nn.Module,
    objective: Objective,
    scalarizer: Scalarizer | GradientWeighting,
    step: int,
) -> bool:
    """Refuse a step whose gradient, scalarized loss or auxiliary loss is not finite: one look, before it is taken.

    The norm of gradients that were exchanged is the same on every process (a NaN or an infinity of one reaches all);
    the other numbers are each process's own, so with several of them all look at the same verdict, and stop together.

    Args:
        norm: of the gradients, before they are clipped.
        forwards: of the step.
        accelerator: with fp16 its scaler skips steps whose gradients overflow in half precision.
        model: the model itself.
        objective: what is minimised.
        scalarizer: what made one loss of the m.
        step: the number of steps done.

    Returns:
        Whether the gradient is finite; if not, the scaler skips the step.

    Raises:
        FloatingPointError: what is not finite, with objective, step, preference and rows as far as they can be told.
    """
    totals = [forward.total.to(norm) for forward in forwards]
    # One process alone need not gather, and a sum that is finite has finite parts.
    if accelerator.num_processes == 1 and math.isfinite(sum(totals, norm).item()):
        return True
    looked_at = torch.cat([norm.view(1), *totals])
    if accelerator.num_processes > 1:
        looked_at = accelerator.gather(looked_at)
    if looked_at.isfinite().all():
        return True
    for forward in forwards:
        _check_total(forward, scalarizer, step)
    if accelerator.num_processes > 1 and norm.isfinite():
        raise FloatingPointError(
            f"a scalarized or an auxiliary loss is not finite on another process at step {step}: its message says "
            f"for which preferences and rows. Nothing was updated: {_REMEDY}."
        )
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    faulty = [(name, gradient) for name, gradient in named if not gradient.isfinite().all()]
    if faulty and accelerator.scaler is not None and not _is_beyond_scaling(accelerator):
        return False
    cause = None
    # A forward of one process alone would wait for the others'.
    if accelerator.num_processes == 1:
        cause = _cause(forwards, partial(own_autocast, accelerator), model, objective, scalarizer)
    _refuse_gradient(named, faulty, cause, forwards, step)


def _is_beyond_scaling(accelerator: Accelerator) -> bool:
    # The smallest normal number of half precision: a gradient that overflows even so is no matter of the scale.
    assert accelerator.scaler is not None
    return bool(accelerator.scaler.get_scale() < torch.finfo(torch.float16).tiny)


def _check_total(forward: Forward, scalarizer: Scalarizer | GradientWeighting, step: int) -> None:
    preferences, rows = forward.update.preferences, forward.update.rows
    faults = ~forward.scalarized.isfinite()
    if faults.any():
        group = int(faults.nonzero()[0])
        raise FloatingPointError(
            f"the scalarized loss of {scalarizer!r} is {forward.scalarized[group].item()} at step {step} "
            f"{place(preferences, rows, group)}, whose losses {forward.losses[group].tolist()} are finite. Nothing was "
            "updated: look for a division by almost 0 or a power that overflows in the scalarizer's options."
        )
    if forward.auxiliary is not None and not forward.auxiliary.isfinite():
        raise FloatingPointError(
            f"the auxiliary loss is {forward.auxiliary.item()} at step {step} {place(preferences, rows)}, and the "
            f"other losses are finite. Nothing was updated: {_REMEDY}."
        )
    if not forward.total.isfinite():
        raise FloatingPointError(
            f"the mean of the scalarized losses, with the auxiliary loss, overflows at step {step} "
            f"{place(preferences, rows)}. Nothing was updated: bring the losses to a smaller scale."
        )


def _refuse_gradient(
    named: Sequence[tuple[str, Tensor]],
    faulty: Sequence[tuple[str, Tensor]],
    cause: str | None,
    forwards: Sequence[Forward],
    step: int,
) -> NoReturn:
    if cause is None:
        preferences = torch.cat([forward.update.preferences for forward in forwards])
        rows = [row for forward in forwards for row in forward.update.rows]
        cause = f"the losses {place(preferences, rows)}"
    if faulty:
        name, gradient = faulty[0]
        value = gradient[~gradient.isfinite()].flatten()[0].item()
        raise FloatingPointError(
            f"the gradient of {cause} is not finite at step {step}, though the losses are: that of {name} holds "
            f"{value} ({len(faulty)} of {len(named)} parameters have such entries). Nothing was updated: {_SLOPE}."
        )
    name, gradient = max(named, key=lambda pair: pair[1].abs().amax().item() if pair[1].numel() else 0.0)
    raise FloatingPointError(
        f"the norm of the gradient of {cause} overflows at step {step}: the largest entry is "
        f"{gradient.abs().amax().item():.3g}, of {name}. Clipping would divide by infinity, and nothing would move. "
        "Nothing was updated: bring the losses to a smaller scale (beta, or rewards in other units), or lower the "
        "learning rate."
    )


def _cause(
    forwards: Sequence[Forward],
    autocast: Callable[[], AbstractContextManager[Any]],
    model: nn.Module,
    objective: Objective,
    scalarizer: Scalarizer | GradientWeighting,
) -> str | None:
    """Whose gradient it is, in words, by forwards and backward passes of single losses; ``None`` if none shows it.

    What it costs does not matter any more. Random numbers such as dropout's are others than in the step.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for forward in forwards:
        update = forward.update
        try:
            with kept_random_state(), autocast():
                losses, auxiliary, *_ = Losses(*objective.training_losses(model, update.batch, update.preferences))
            faults = _faulty_losses(losses, parameters)
            if faults.any():
                return _first_fault(faults, update, objective)
            if auxiliary is not None and _is_faulty(auxiliary, parameters):
                return f"the auxiliary loss {place(update.preferences, update.rows)}"
            if isinstance(scalarizer, Scalarizer):
                values = at_least_float32(forward.losses).clone().requires_grad_()
                scalarized = scalarizer(values, update.preferences)
                (slopes,) = torch.autograd.grad(scalarized.sum(), values)
                if not slopes.isfinite().all():
                    group = int((~slopes.isfinite()).nonzero()[0, 0])
                    return f"{scalarizer!r} {place(update.preferences, update.rows, group)}"
        # Whatever goes wrong here, the fault itself is what is to be told.
        except Exception:
            return None
    return None


def _first_fault(faults: Tensor, update: Update, objective: Objective) -> str | None:
    """The first of the faulty losses, ``(G, m)`` bool, in words; ``None`` for all or none: it is no single one's."""
    if faults.all() or not faults.any():
        return None
    group, index = (int(i) for i in faults.nonzero()[0])
    return f"the loss {objective.names[index]!r} {place(update.preferences, update.rows, group)}"


def _faulty_losses(losses: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Which of the losses ``(G, m)`` have a gradient that is not finite or overflows: bool ``(G, m)``.

    A backward pass of one loss does not tell: what the others hand back is 0 then, and 0 · ∞ is NaN. With gradients
    J^T v as a function of v, its own derivative J u has for each loss that loss's slopes alone.
    """
    weights = torch.ones_like(losses, requires_grad=True)
    try:
        kept = {"retain_graph": True, "create_graph": True, "allow_unused": True}
        gradients = torch.autograd.grad(losses, parameters, weights, **kept)
        total = torch.stack([gradient.sum() for gradient in gradients if gradient is not None]).sum()
        (slopes,) = torch.autograd.grad(total, weights, retain_graph=True)
    # Some kernels have no second derivative.
    except RuntimeError:
        slopes = torch.zeros_like(losses)
    if not slopes.isfinite().all():
        return ~slopes.isfinite()
    places = torch.cartesian_prod(*(torch.arange(size) for size in losses.shape)).tolist()
    faults = [_is_faulty(losses[group, index], parameters) for group, index in places]
    return torch.tensor(faults).view(losses.shape)


def _is_faulty(loss: Tensor, parameters: Sequence[nn.Parameter]) -> bool:
    if not loss.requires_grad:
        return False
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    norm = torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])
    return not bool(norm.isfinite())
