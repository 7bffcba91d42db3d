"""What happened since the last entry of the history: the steps' numbers, and the objective's own metrics."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from accelerate import Accelerator
from torch import Tensor

from mopref._agreement import gathered_objects
from mopref._precision import are_finite
from mopref._terminal import visible_line
from mopref.objective import Metric

__all__ = ["IntervalLog"]

# Of each metric: Σ weight · value and Σ weight, on the device until they are read.
_Sums: TypeAlias = dict[str, list[Any]]


class IntervalLog:
    """Numbers of steps and metrics, until they become one entry.

    Attributes:
        steps: of each step, ``[scalarized loss, m losses, learning rate, gradient norm]``; the norm is NaN where fp16's
            scaler skipped the step.
    """

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self._metrics: _Sums = {}

    def add(self, metrics: Mapping[str, Metric | float]) -> None:
        """Count metrics of an update."""
        for name, metric in metrics.items():
            value, weight = metric if isinstance(metric, Metric) else Metric(metric)
            sums = self._metrics.setdefault(name, [0.0, 0.0])
            sums[0], sums[1] = sums[0] + _summand(weight * value), sums[1] + _summand(weight)

    def entry(self, accelerator: Accelerator, names: tuple[str, ...]) -> dict[str, float]:
        """One entry of all that was counted on all processes, the same on each; counting starts anew.

        Skipped steps have no part in ``gradient_norm``; where there are any, ``skipped_steps`` is their number.
        """
        steps, skipped = torch.stack(self.steps), 0
        if not are_finite(steps):
            skipped = int(steps[:, -1].isnan().sum())
            if 0 < skipped < len(steps):
                steps[:, -1] = steps[:, -1].nan_to_num(nan=steps[:, -1].nanmean().item())
            # Where all were skipped there is no norm: 0, as nothing moved, which every tracker and JSON can hold.
            steps = steps.nan_to_num(nan=0.0)
        mean = steps.mean(dim=0)
        if accelerator.num_processes > 1:
            mean = accelerator.reduce(mean, reduction="mean")
        keys = ["loss", *(f"loss/{name}" for name in names), "learning_rate", "gradient_norm"]
        metrics = {name: total / weight for name, (total, weight) in self._of_all_processes().items() if weight}
        self.steps.clear()
        self._metrics.clear()
        entry: dict[str, float] = dict(zip(keys, mean.tolist(), strict=True)) | metrics
        return entry | {"skipped_steps": float(skipped)} if skipped else entry

    def progress(self, history: Sequence[Mapping[str, float]], names: tuple[str, ...]) -> str:
        """The losses of the history's last entry; before there is one, those of the last step."""
        last = history[-1] if history else None
        losses = self.steps[-1][1:].tolist() if last is None else [last[f"loss/{name}"] for name in names]
        return ", ".join(f"{visible_line(name)}={loss:.4f}" for name, loss in zip(names, losses, strict=False))

    @property
    def metrics(self) -> _Sums:
        """A copy of the metrics' sums; set it to return to an earlier one."""
        return {name: list(sums) for name, sums in self._metrics.items()}

    @metrics.setter
    def metrics(self, sums: _Sums) -> None:
        self._metrics = {name: list(pair) for name, pair in sums.items()}

    def state_dict(self) -> list[Any]:
        """What a checkpoint must hold."""
        return [list(self.steps), self._read()]

    def load_state_dict(self, state: list[Any], device: torch.device) -> None:
        """Continue from a state given by :meth:`state_dict`.

        Raises:
            ValueError: metrics that are no sums.
        """
        steps, metrics = state
        self.metrics = {name: [float(total), float(weight)] for name, (total, weight) in metrics.items()}
        self.steps = [values.to(device) for values in steps]

    def _of_all_processes(self) -> _Sums:
        sums: _Sums = {}
        for own in gathered_objects(self._read()):
            for name, (total, weight) in own.items():
                pair = sums.setdefault(name, [0.0, 0.0])
                pair[0], pair[1] = pair[0] + total, pair[1] + weight
        return sums

    def _read(self) -> _Sums:
        """The metrics' sums as Python's own numbers, since the history and they are part of a checkpoint."""
        return {name: [float(total), float(weight)] for name, (total, weight) in self._metrics.items()}


def _summand(number: Any) -> Any:
    """A number of any library; a tensor's stays on its device, in double precision where that has it."""
    if not isinstance(number, Tensor):
        return float(number)
    return number.detach().to(torch.float32 if number.device.type == "mps" else torch.float64)
