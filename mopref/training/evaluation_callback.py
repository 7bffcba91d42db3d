"""Held-out figures while a model is trained: measured, logged, the best model kept, and the training ended in time."""

import math
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from mopref import indicators
from mopref._agreement import gathered_objects, is_first_process, made_by_first
from mopref._arrays import as_float64, as_vector
from mopref._paths import checked_path
from mopref._repr import OptionsRepr
from mopref.front import Front
from mopref.front.intervals import bound_columns
from mopref.preferences import validate_preferences
from mopref.setting_types import checked_count
from mopref.training.callbacks import RecordingCallback, RunningTrainer
from mopref.training.random_state import kept_random_state
from mopref.training.run_state import load_trained_state, trained_state
from mopref.training.sharding import has_sharded_base, save_once

__all__ = ["EvaluationCallback", "evaluation_figures", "point_label"]


class EvaluationCallback(OptionsRepr, RecordingCallback):
    """Measure held-out figures before the first step, every so many steps, and after the last one.

    A new one implements :meth:`measure`, which gives a front: the figures of a few preferences, in any columns. The
    training is the same as without, bit for bit: the global random generators are put back. The figures go to the
    trainer's trackers as ``evaluation/<preference>/<column>``, and the hypervolume as ``evaluation/hypervolume``.
    Of several processes the first one measures, and all have its record; where the base model is shared out among them
    (FSDP), all of them measure.

    Args:
        every: steps between two evaluations.
        reference_point: ``(m,)``, worse than every value that should count; without it there is no hypervolume.
        patience: the training ends after so many evaluations in a row whose hypervolume is no larger than the largest
            before them; ``None`` to train to the end.
        best_folder: the model is saved here, by its ``save_pretrained``, whenever the hypervolume is the largest so
            far. What is trained of it is kept in memory and in checkpoints, too: a training that goes on from one
            puts the best model of the steps up to there back, whatever was saved after it.

    Attributes:
        records: one dict for each evaluation: ``step``, ``hypervolume`` (``None`` without a reference point),
            ``seconds`` and ``points``, a dict for each preference: ``preference`` and the figures. A training that
            begins again at an earlier step drops what was measured after it.

    Raises:
        ValueError: ``every`` or ``patience`` below 1, a reference point that is not m finite numbers, or ``patience``
            or ``best_folder`` without one.
        TypeError: a value of another type, named.
    """

    def __init__(
        self,
        every: int = 100,
        reference_point: ArrayLike | None = None,
        patience: int | None = None,
        best_folder: str | Path | None = None,
    ) -> None:
        self.every = checked_count(every, "every")
        self.patience = None if patience is None else checked_count(patience, "patience")
        self.reference_point = None if reference_point is None else as_float64(reference_point, "reference_point")
        self.best_folder = None if best_folder is None else checked_path(best_folder, "best_folder")
        for name in ("patience", "best_folder"):
            if getattr(self, name) is not None and reference_point is None:
                raise ValueError(
                    f"{name} is {getattr(self, name)}: the best is that of the largest hypervolume, so give the "
                    "reference_point that it is measured from."
                )
        self.records: list[dict[str, Any]] = []
        # What is trained of the best model, on the CPU, and whether it comes from a checkpoint.
        self._best_state: dict[str, Tensor] | None = None
        self._is_resumed = False

    def state_dict(self) -> dict[str, Any]:
        """What was measured, and the best model."""
        return {**super().state_dict(), **({} if self._best_state is None else {"best": self._best_state})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what was measured before."""
        super().load_state_dict(state)
        self._best_state, self._is_resumed = state.get("best"), True

    def options(self) -> dict[str, Any]:
        """How often it measures, and what for."""
        return {name: getattr(self, name) for name in ("every", "reference_point", "patience", "best_folder")}

    @abstractmethod
    def measure(self, trainer: RunningTrainer) -> Front:
        """The figures at a few preferences, by the model as it is."""

    def recorded(self, trainer: RunningTrainer, record: dict[str, Any]) -> None:
        """Called with each new record, which may be added to, where it was measured; does nothing here."""

    @property
    def best(self) -> dict[str, Any] | None:
        """The record with the largest hypervolume, the first of equals; ``None`` where none has any."""
        records = [record for record in self.records if _volume(record) is not None]
        return max(records, key=lambda record: record["hypervolume"], default=None)

    def shown(self) -> str:
        """The last hypervolume."""
        volume = _volume(self.records[-1]) if self.records else None
        return "" if volume is None else f"hypervolume={volume:.4f}"

    def kept_steps(self) -> tuple[int, ...]:
        """The step of the best evaluation."""
        return () if self.best is None else (int(self.best["step"]),)

    def on_train_begin(self, trainer: RunningTrainer) -> None:
        """Measure where the training starts, unless it goes on from what was measured before.

        Raises:
            ValueError: a reference point of another number of objectives, or a model that cannot be saved as the best;
                before anything is measured.
            FileExistsError: a ``best_folder`` that holds something else, which would be lost.
        """
        if self.reference_point is not None:
            as_vector(self.reference_point, trainer.objective.num_objectives, "reference_point")
        if self.best_folder is not None and not hasattr(trainer.unwrapped_model, "save_pretrained"):
            name = type(trainer.unwrapped_model).__name__
            raise ValueError(
                f"best_folder is {str(self.best_folder)!r}, but {name} has no save_pretrained: leave it out."
            )
        if self.best_folder is not None and hasattr(trainer.unwrapped_model, "check_folder"):
            trainer.unwrapped_model.check_folder(self.best_folder)  # type: ignore[operator]
        self.drop_later_records(trainer)
        if self._is_resumed and self.best is not None and self.best_folder is not None:
            self._put_back_best(trainer.unwrapped_model, self.best_folder)
        self._is_resumed = False
        if not self.records:
            self._evaluate(trainer)

    def on_step_end(self, trainer: RunningTrainer) -> None:
        """Measure every so many steps, and end the training where it gets no better."""
        if trainer.step % self.every:
            return
        self._evaluate(trainer)
        if self.patience is not None and self._since_best() >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: RunningTrainer) -> None:
        """Measure where the training ends."""
        if not self._is_measured(trainer):
            self._evaluate(trainer)

    def _is_measured(self, trainer: RunningTrainer) -> bool:
        return bool(self.records) and self.records[-1]["step"] == trainer.step

    def _since_best(self) -> int:
        best = self.best
        return 0 if best is None else len(self.records) - 1 - self.records.index(best)

    def _evaluate(self, trainer: RunningTrainer) -> None:
        model = trainer.unwrapped_model
        if has_sharded_base(model):
            record = gathered_objects(self._measured(trainer))[0]
        else:
            record = made_by_first(lambda: self._measured(trainer))
        self.records.append(record)
        if self.best_folder is not None and self.best is record:
            save_once(model, self.best_folder)
            # Asked for by all: FSDP gives back on each what it had whole.
            state = _copied_state(model)
            self._best_state = state if is_first_process() else None

    def _measured(self, trainer: RunningTrainer) -> dict[str, Any]:
        start = time.perf_counter()
        # An evaluation may draw random numbers, in a generation for example.
        with kept_random_state():
            front = self.measure(trainer)
            record = {
                "step": trainer.step,
                "hypervolume": self._hypervolume(front),
                "seconds": time.perf_counter() - start,
                "points": evaluation_figures(front),
            }
            self.recorded(trainer, record)
        trainer.accelerator.log(_flat(record, front), step=trainer.step)
        return record

    def _put_back_best(self, model: nn.Module, folder: Path) -> None:
        """Save the best model of a checkpoint: the folder may hold that of a step which has not happened any more."""
        # The first process keeps it.
        best = gathered_objects(self._best_state)[0]
        if best is None:
            return  # Of a version that kept none, or one that was not asked for.
        present, place = _copied_state(model), f"the best model that the checkpoint keeps for {folder}"
        load_trained_state(model, best, place)
        try:
            save_once(model, folder)
        finally:
            load_trained_state(model, present, place)

    def _hypervolume(self, front: Front) -> float | None:
        if self.reference_point is None:
            return None
        return indicators.hypervolume_with_method(front.values, self.reference_point, front.maximize).value


def _copied_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in trained_state(model).items()}


def evaluation_figures(front: Front) -> list[dict[str, Any]]:
    """A dict for each point of a front: ``preference`` by name, and every number beside it.

    An objective's value is ``loss/<name>``, or ``reward/<name>`` where it is maximised; an extra column such as
    ``accuracy_<name>`` is ``accuracy/<name>``, any other is called as it is. A figure that is not known (NaN) is
    ``None``. Where there are intervals, ``intervals`` holds them by the figures' names, ``[low, high]``.
    """
    kinds = ["reward" if flag else "loss" for flag in front.is_maximized()]
    columns = {
        f"{kind}/{name}": front.values[:, i] for i, (kind, name) in enumerate(zip(kinds, front.names, strict=True))
    }
    names = dict(zip(front.names, columns, strict=True))
    bounds = bound_columns(front.intervals)
    for name, column in front.extra.items():
        if name not in bounds:
            names[name] = _figure(name, front.names)
            columns[names[name]] = column
    intervals = {names[name]: pairs for name, pairs in front.intervals.items()}
    points = []
    for index, weights in enumerate(front.preferences.tolist()):
        point = {"preference": dict(zip(front.names, weights, strict=True))}
        point |= {name: _plain(column[index]) for name, column in columns.items()}
        if intervals:
            point["intervals"] = {name: [_plain(end) for end in pairs[index]] for name, pairs in intervals.items()}
        points.append(point)
    return points


def point_label(names: Sequence[str], preference: Any) -> str:
    """A preference in a word or few: the objective's name at a corner, "even" in the middle, else the weights.

    Example:
        >>> point_label(["helpful", "harmless"], [1.0, 0.0]), point_label(["helpful", "harmless"], [0.25, 0.75])
        ('helpful', 'helpful 0.25, harmless 0.75')
    """
    weights = validate_preferences(preference, tuple(names))[0].tolist()
    for name, weight in zip(names, weights, strict=True):
        if math.isclose(weight, 1.0, abs_tol=1e-6):
            return name
    if np.ptp(np.asarray(weights)) < 1e-6:
        return "even"
    return ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, weights, strict=True))


def _figure(column: str, names: Sequence[str]) -> str:
    """``accuracy_helpful`` as ``accuracy/helpful``; the longest name that fits counts."""
    for name in sorted(names, key=len, reverse=True):
        if column.endswith(f"_{name}"):
            return f"{column.removesuffix(f'_{name}')}/{name}"
    return column


def _plain(cell: Any) -> Any:
    value = cell.item() if isinstance(cell, np.generic) else cell
    return None if isinstance(value, float) and math.isnan(value) else value


def _flat(record: Mapping[str, Any], front: Front) -> dict[str, float]:
    """A record's numbers by one name each, as trackers take them."""
    flat = {} if record["hypervolume"] is None else {"evaluation/hypervolume": record["hypervolume"]}
    preferences: list[NDArray[Any]] = list(front.preferences)
    for preference, point in zip(preferences, record["points"], strict=True):
        label = point_label(front.names, preference.tolist())
        numbers = {name: value for name, value in point.items() if isinstance(value, int | float)}
        flat |= {f"evaluation/{label}/{name}": float(value) for name, value in numbers.items()}
    return flat


def _volume(record: Mapping[str, Any]) -> float | None:
    value = record["hypervolume"]
    # NaN is larger and smaller than nothing, so that a first one would stay the best for ever.
    return None if value is None or not math.isfinite(value) else float(value)
