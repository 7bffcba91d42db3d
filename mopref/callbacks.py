"""Callbacks that watch a training without changing it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from mopref import indicators
from mopref._arrays import as_float64
from mopref.checkpoint import random_state, set_random_state
from mopref.trainer import ParetoTrainer, TrainerCallback

__all__ = ["HypervolumeCallback"]


class HypervolumeCallback(TrainerCallback):
    """Measure the front's hypervolume before the first step, every so many steps, and after the last one.

    Each time the losses of all preferences are evaluated, on all rows of data: what that costs is recorded as well, and
    ``every`` is the way to pay less. The training is the same as without, bit for bit: the model is evaluated in
    evaluation mode, and the global random generators are put back. The value also goes to the trainer's trackers.

    Args:
        preferences: λ, ``(N, m)``, or a number of points for an evenly spread lattice.
        reference_point: ``(m,)``, worse than every loss that should count; values compare only under the same one.
        every: steps between two measurements.
        data: rows to evaluate on; the training data by default, and none where the objective needs none.

    Attributes:
        records: one dict for each measurement: ``step``, ``hypervolume``, ``exact`` (whether it is, or moocore's
            approximation) and ``seconds``. :func:`mopref.plotting.plot_hypervolume` draws them. A training that
            begins again at an earlier step drops what was measured from there on.

    Raises:
        ValueError: ``every`` below 1, or a reference point that is not m finite numbers.
    """

    def __init__(
        self,
        preferences: int | Tensor | Sequence[Sequence[float]],
        reference_point: ArrayLike,
        every: int = 100,
        data: Sequence[Any] | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every is {every}: it is the number of steps between measurements, so at least 1.")
        self.preferences, self.every, self.data = preferences, every, data
        self.reference_point = as_float64(reference_point, "reference_point")
        self.records: list[dict[str, Any]] = []

    def on_train_begin(self, trainer: ParetoTrainer) -> None:
        """Measure where the training starts."""
        self.records[:] = [record for record in self.records if record["step"] < trainer.step]
        self._measure(trainer)

    def on_step_end(self, trainer: ParetoTrainer) -> None:
        """Measure every so many steps."""
        if trainer.step % self.every == 0:
            self._measure(trainer)

    def on_train_end(self, trainer: ParetoTrainer) -> None:
        """Measure where the training ends."""
        if self.records[-1]["step"] != trainer.step:
            self._measure(trainer)

    def _measure(self, trainer: ParetoTrainer) -> None:
        start = time.perf_counter()
        # An objective may draw random numbers, in a generation for example.
        state = random_state()
        try:
            front = trainer.front(self.preferences, self.data)
        finally:
            set_random_state(state)
        volume = indicators.hypervolume_with_method(front.values, self.reference_point)
        self.records.append(
            {
                "step": trainer.step,
                "hypervolume": volume.value,
                "exact": volume.exact,
                "seconds": time.perf_counter() - start,
            }
        )
        trainer.accelerator.log({"hypervolume": volume.value}, step=trainer.step)
