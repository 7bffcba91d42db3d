"""Callbacks that watch a training without changing it."""

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from numpy.typing import ArrayLike
from torch import nn

from mopref import indicators
from mopref._arrays import as_float64, as_vector
from mopref._repr import OptionsRepr
from mopref.data_rows import checked_rows
from mopref.front import Front
from mopref.objective import Objective
from mopref.setting_types import python_value
from mopref.training.random_state import kept_random_state

__all__ = ["HypervolumeCallback", "RecordingCallback", "RunningTrainer", "TrainerCallback"]


class RunningTrainer(Protocol):
    """What a callback may use of the trainer that calls it."""

    step: int
    should_stop: bool
    history: list[dict[str, float]]
    accelerator: Accelerator
    objective: Objective

    @property
    def unwrapped_model(self) -> nn.Module:
        """The model itself, without what accelerate wraps around it."""

    def front(self, preferences: Any, data: Sequence[Any] | None = None) -> Front:
        """The losses the model reaches at each preference."""


class TrainerCallback:
    """Hooks into the loop; derive and override what is needed."""

    def on_train_begin(self, trainer: RunningTrainer) -> None:
        """Called before the first step, after a resume."""

    def on_step_end(self, trainer: RunningTrainer) -> None:
        """Called after every optimiser step; set ``trainer.should_stop = True`` to end the training here."""

    def on_log(self, trainer: RunningTrainer, entry: Mapping[str, float]) -> None:
        """Called with each new entry of ``trainer.history``."""

    def on_checkpoint(self, trainer: RunningTrainer, folder: Path) -> None:
        """Called after a checkpoint was written."""

    def on_train_end(self, trainer: RunningTrainer) -> None:
        """Called after the last step."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback, in tensors and plain values; nothing here."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state given by :meth:`state_dict`, before ``on_train_begin``; called where it was not empty."""

    def kept_steps(self) -> Collection[int]:
        """Steps whose checkpoints stay, whatever ``TrainerConfig.keep_checkpoints`` says; none here."""
        return ()

    def shown(self) -> str:
        """What the progress bar shows of it beside the losses, such as "hypervolume=0.1523"; nothing here."""
        return ""


class RecordingCallback(TrainerCallback):
    """A callback that measures something at some steps, and goes on from what it measured before.

    Attributes:
        records: one dict for each measurement, with its ``step``; part of a checkpoint.
    """

    records: list[dict[str, Any]]

    def state_dict(self) -> dict[str, Any]:
        """What was measured."""
        return {"records": self.records}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what was measured before."""
        self.records[:] = state["records"]

    def drop_later_records(self, trainer: RunningTrainer) -> None:
        """Keep what was measured up to the step that the training begins at; nothing where it is the first one."""
        self.records[:] = [record for record in self.records if 0 < trainer.step >= record["step"]]


class HypervolumeCallback(OptionsRepr, RecordingCallback):
    """Measure the front's hypervolume before the first step, every so many steps, and after the last one.

    Each time the losses of all preferences are evaluated, on all rows of data: what that costs is recorded as well, and
    ``every`` is the way to pay less. The training is the same as without, bit for bit: the model is evaluated in
    evaluation mode, and the global random generators are put back. The value also goes to the trainer's trackers.

    Args:
        preferences: λ, ``(N, m)``, by name, or a number of points for an evenly spread lattice.
        reference_point: ``(m,)``, worse than every loss that should count; values compare only under the same one.
        every: steps between two measurements.
        data: rows to evaluate on; the training data by default, and none where the objective needs none.

    Attributes:
        records: one dict for each measurement: ``step``, ``hypervolume``, ``exact`` (whether it is, or moocore's
            approximation) and ``seconds``. :func:`mopref.plotting.plot_hypervolume` draws them. A training that
            begins again at an earlier step drops what was measured from there on.

    Raises:
        ValueError: ``every`` below 1, or a reference point that is not m finite numbers.
        TypeError: ``every`` that is no whole number, or data whose rows cannot be counted, or had by their number.
    """

    def __init__(
        self,
        preferences: Any,
        reference_point: ArrayLike,
        every: int = 100,
        data: Sequence[Any] | None = None,
    ) -> None:
        self.every = python_value(every, int, "every")
        if self.every < 1:
            raise ValueError(f"every is {every}: it is the number of steps between measurements, so at least 1.")
        self.preferences, self.data = preferences, data if data is None else checked_rows(data, "data")
        self.reference_point = as_float64(reference_point, "reference_point")
        self.records: list[dict[str, Any]] = []

    def options(self) -> dict[str, Any]:
        """What is measured, against which point and how often."""
        return {name: getattr(self, name) for name in ("preferences", "reference_point", "every", "data")}

    def on_train_begin(self, trainer: RunningTrainer) -> None:
        """Measure where the training starts, unless it goes on from what was measured before.

        Raises:
            ValueError: a reference point of another number of objectives; before anything is measured.
        """
        as_vector(self.reference_point, trainer.objective.num_objectives, "reference_point")
        self.drop_later_records(trainer)
        if not self.records:
            self._measure(trainer)

    def on_step_end(self, trainer: RunningTrainer) -> None:
        """Measure every so many steps."""
        if trainer.step % self.every == 0:
            self._measure(trainer)

    def on_train_end(self, trainer: RunningTrainer) -> None:
        """Measure where the training ends."""
        if self.records[-1]["step"] != trainer.step:
            self._measure(trainer)

    def _measure(self, trainer: RunningTrainer) -> None:
        start = time.perf_counter()
        # An objective may draw random numbers, in a generation for example.
        with kept_random_state():
            front = trainer.front(self.preferences, self.data)
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
