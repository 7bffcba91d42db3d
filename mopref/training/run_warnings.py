"""RunWarnings: what goes wrong in a training without an error, told while there is time, once each, with what to do."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mopref._warning import warn
from mopref.evaluation_mode import evaluation_mode
from mopref.objective import Objective, Update
from mopref.training.random_state import kept_random_state

__all__ = ["RunWarnings"]

# Before so many steps nothing can be said: an adapter that starts at ΔW = 0, as the paper's does with σ = s = 0, shows
# no effect of λ on a language model for some 30 steps, and a schedule's first twentieth is its warm-up.
_FEWEST_STEPS = 100
# As Front.is_collapsed has it: what differs by less than this share does not differ.
_TOLERANCE = 1e-3
# Numbers that differ by less than this share of their size differ by the rounding of float32.
_ROUNDING = 1e-6
# Entries at the beginning and at the end of the history whose means are compared; single ones are noise.
_WINDOW = 5
# Tuned policies stay within some tens of nats of their base, and rewards were made for texts like the base's: at 100
# nats a response is e^100 times likelier than it was. A KL that grew by a fifth of that has to have earned something.
_HIGHEST_KL, _GROWN_KL = 100.0, 20.0
# Lengths that double may be what a reward asks for in short answers; so many tokens more are worth a look.
_GROWN_TOKENS = 16


class RunWarnings:
    """Watches one training. Nothing of it goes into the training, and all it knows comes from the history.

    Args:
        model: the model itself.
        objective: what is minimised.
        steps: of the whole run.
        autocast: makes the context that the model runs in.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, steps: int, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self._model, self._objective, self._autocast = model, objective, autocast
        self._looked_at = {at for at in (-(-steps // 4), -(-steps // 2), steps) if at >= _FEWEST_STEPS}
        self._said: set[str] = set()
        self._moving: set[str] = set()

    def look_at(self, history: Sequence[Mapping[str, float]]) -> None:
        """See the history with a new entry.

        Warns:
            UserWarning: a loss or a reward that never moves, a KL that runs away, or responses that grow; once each.
        """
        if len(history) < 2 * _WINDOW:
            return
        if history[-1]["step"] >= _FEWEST_STEPS:
            self._look_for_constants(history)
        if not {"kl", "response_length"} & history[-1].keys():
            return
        first, last = _means(history[:_WINDOW]), _means(history[-_WINDOW:])
        if "kl" in last and "kl" in first:
            self._look_at_kl(first, last)
        before, now = first.get("response_length", 0.0), last.get("response_length", 0.0)
        if now >= 2 * before and now - before >= _GROWN_TOKENS:
            cut = last.get("truncated", 0.0)
            self._say(
                "lengths",
                f"responses have grown from {before:.0f} to {now:.0f} tokens, and {cut:.0%} of them are cut at the "
                "limit: where no reward is meant to ask for length, one of them pays for it. Look at some texts; add "
                "mopref.llm.rewards.Conciseness, or a truncation_penalty for what is cut.",
            )

    def look_for_collapse(self, update: Update, step: int, history: Sequence[Mapping[str, float]]) -> None:
        """Now and then, three times in a run, see whether λ matters: m forwards of one batch, at the corners of λ.

        Args:
            update: the last one of the step.
            step: the number of steps done.
            history: the trainer's.

        Warns:
            UserWarning: every preference gives the same; once.
        """
        m = self._objective.num_objectives
        if m < 2 or step not in self._looked_at or "collapse" in self._said:
            return
        corners = torch.eye(m).to(update.preferences)
        state = deepcopy(self._objective.state_dict())
        # It may draw random numbers, and count its calls.
        try:
            with kept_random_state(), evaluation_mode(self._model), torch.no_grad(), self._autocast():
                values = self._objective.effect_of_preferences(self._model, update, corners).double().cpu()
        # Such as a batch that is made for one preference: nothing is known then, and the training is all right.
        except (ValueError, TypeError, NotImplementedError, ArithmeticError, LookupError):
            return
        finally:
            self._objective.load_state_dict(state)
        if not values.isfinite().all() or values.numel() == 0:
            return
        differences = values.amax(dim=0) - values.amin(dim=0)
        if (differences <= _TOLERANCE * self._sizes(values, history)).all():
            self._say(
                "collapse",
                f"after {step} steps every preference gives the same model: at the corners of λ the numbers of one "
                f"batch differ by {differences.max().item():.2g} at most, of {values.abs().max().item():.3g}. The "
                "front has collapsed, unless its objectives have one optimum together. See that the model reads its "
                "preferences and that its preference part is trained (SVDLoRAConfig.initialization, learning_rate); "
                "smooth Tchebycheff wants a smaller mu or a higher ideal point, and losses of unlike size Normalized. "
                "trainer.front(11).is_collapsed() measures it.",
            )

    def _sizes(self, values: Tensor, history: Sequence[Mapping[str, float]]) -> Tensor:
        """What a difference is measured by: a number's size or, where they are losses, how much they move if less.

        Losses that are all large and nearly equal would seem the same otherwise.
        """
        sizes = values.abs().amax(dim=0)
        names = self._objective.names
        recent = history[len(history) // 2 :]
        if len(sizes) == len(names) and len(recent) >= _WINDOW:
            moved = [_range([entry[f"loss/{name}"] for entry in recent]) for name in names]
            sizes = torch.minimum(sizes, torch.tensor(moved, dtype=sizes.dtype).maximum(_ROUNDING / _TOLERANCE * sizes))
        return sizes

    def _look_for_constants(self, history: Sequence[Mapping[str, float]]) -> None:
        for key in (f"{kind}/{name}" for name in self._objective.names for kind in ("loss", "reward")):
            if key in self._moving or f"constant {key}" in self._said:
                continue
            values = [entry[key] for entry in history if key in entry]
            if len(values) < 2 * _WINDOW:
                continue
            if _range(values) > _ROUNDING * max(map(abs, values)):
                # Not to be asked again, or a long history would be gone through at every entry.
                self._moving.add(key)
                continue
            kind, _, name = key.partition("/")
            self._say(
                f"constant {key}",
                f"the {kind} {name!r} has been {values[-1]:.6g} in all {len(values)} entries of the log: it never "
                "moves, so that nothing is learned for it, and its weight in λ does nothing. See that it depends on "
                "the model's output, that its labels or its reward's values differ, and that its loss is not flat "
                "where training starts.",
            )

    def _look_at_kl(self, first: Mapping[str, float], last: Mapping[str, float]) -> None:
        rewards = [key for key in last if key.startswith("reward/") and key in first]
        is_in_vain = last["kl"] - first["kl"] > _GROWN_KL and all(last[key] <= first[key] for key in rewards)
        if last["kl"] > _HIGHEST_KL or (rewards and is_in_vain):
            earned = "and no reward has grown" if is_in_vain else "which no reward was made for"
            self._say(
                "kl",
                f"the policy runs away from its reference: the KL has grown from {first['kl']:.3g} to {last['kl']:.3g} "
                f"nats a response, {earned}. Raise beta, lower the learning rate or the number of epochs, and look at "
                "some texts before they are trusted.",
            )

    def _say(self, kind: str, message: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warn(message)


def _means(entries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the columns that all entries have."""
    keys = [key for key in entries[0] if all(key in entry for entry in entries)]
    return {key: sum(entry[key] for entry in entries) / len(entries) for key in keys}


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values)
