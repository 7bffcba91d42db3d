"""TrainerConfig: the settings of a training run, checked when they are made."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mopref.setting_types import python_value
from mopref.training.optimizers import OPTIMIZERS

__all__ = ["TrainerConfig"]

# The learning rate's factor over the progress 0…1 after the warm-up.
_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


_COUNTS = ("steps", "batch_size", "preferences_per_step", "gradient_accumulation_steps", "log_every")
# The type of every setting that has one, and whether None may stand for it.
_TYPES: dict[str, tuple[type, bool]] = {
    **{name: (int, False) for name in (*_COUNTS, "seed")},
    **{name: (float, False) for name in ("learning_rate", "weight_decay", "warmup_ratio")},
    "max_grad_norm": (float, True),
    "lr_schedule": (str, False),
    "optimizer": (str, False),
    "mixed_precision": (str, True),
    "checkpoint_every": (int, True),
    "keep_checkpoints": (int, True),
    "cpu": (bool, False),
    "progress": (bool, False),
}
# What NumPy's global generator can be seeded with.
_LARGEST_STEP = 1e30
_SEEDS = 2**32


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of a training run.

    Numbers may be NumPy's or single tensors, as sweeps give them; they are kept as Python's own.

    Args:
        steps: optimiser steps. A resumed run may have more; the learning rate is then that of the longer schedule from
            there on, which may leap up again, and a warning says so.
        batch_size: data rows in one forward, on each process. A step has ``batch_size`` · processes ·
            ``gradient_accumulation_steps`` rows, of which each preference has an equal share.
        preferences_per_step: G, the preferences drawn for one step; 1 is the paper's setting (arXiv 2402.02030). Where
            the S = processes · ``gradient_accumulation_steps`` forwards of a step divide G, each has G/S of them with
            all their rows. Else each has all G, with a part of the rows of each (``batch_size`` is a multiple of G
            then), and the m mean losses of a preference are made of all its rows before they are scalarized: on
            several processes, or in several forwards, a run is the same as in one.
        gradient_accumulation_steps: forwards of one step on each process, whose gradients are added up. Where a
            preference is shared among them, or a scalarizer's point is tracked, a first pass without gradients tells
            the losses; ``Linear`` needs none.
        learning_rate: the peak learning rate of AdamW.
        weight_decay: AdamW's decoupled weight decay.
        lr_schedule: "constant", "linear" or "cosine", falling to 0 at the last step.
        warmup_ratio: the fraction of the steps over which the learning rate rises from 0.
        optimizer: "adamw"; "adamw-fused", PyTorch's faster one; or one of bitsandbytes, "adamw-8bit", whose averages
            take a quarter of the memory, or "paged-adamw-8bit", which on a GPU may also move them to the main memory,
            and cannot be resumed from a checkpoint.
        max_grad_norm: gradients are scaled down to this Euclidean norm; ``None`` for no clipping.
        mixed_precision: ``None`` (or "no"), "fp16" or "bf16", by torch's autocast. What is written here counts,
            whatever another trainer or the environment asked of accelerate.
        seed: seeds everything random in the run, in [0, 2³²).
        output_dir: folder of the checkpoints and of trackers' logs.
        checkpoint_every: write ``output_dir/checkpoint-N`` every so many steps, after the last one, and when SIGTERM or
            Ctrl-C end the run; ``None`` for none.
        keep_checkpoints: keep so many of the newest checkpoints, and that of the best evaluation; ``None`` for all.
        log_every: steps between entries of ``trainer.history`` and of the trackers.
        trackers: accelerate's trackers: names such as "tensorboard" or "wandb", or ``GeneralTracker`` objects.
        cpu: stay on the CPU where there is an accelerator.
        progress: show a progress bar with the loss of each objective.

    Raises:
        ValueError: a value out of its range, named.
        TypeError: a value of another type, named.
    """

    steps: int = 1000
    batch_size: int = 8
    preferences_per_step: int = 4
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    lr_schedule: str = "cosine"
    warmup_ratio: float = 0.05
    optimizer: str = "adamw"
    max_grad_norm: float | None = 1.0
    mixed_precision: str | None = None
    seed: int = 0
    output_dir: str | Path | None = None
    checkpoint_every: int | None = None
    keep_checkpoints: int | None = None
    log_every: int = 10
    trackers: tuple[Any, ...] = ()
    cpu: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        for name, (kind, optional) in _TYPES.items():
            value = getattr(self, name)
            if not (optional and value is None):
                object.__setattr__(self, name, python_value(value, kind, name))
        object.__setattr__(self, "trackers", _checked_trackers(self.trackers))
        self._check_ranges()
        self._check_folders()

    def _check_ranges(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if not 0 <= self.seed < _SEEDS:
            raise ValueError(f"seed is {self.seed}: it must be at least 0 and less than 2³².")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate is {self.learning_rate}: it must be positive and finite.")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise ValueError(f"weight_decay is {self.weight_decay}: it must be ≥ 0 and finite.")
        # The optimiser multiplies float32 weights by both, and float32 ends at 3e38.
        for name, factor in (("learning_rate", 1.0), ("weight_decay", self.learning_rate)):
            if getattr(self, name) * factor > _LARGEST_STEP:
                raise ValueError(f"{name} is {getattr(self, name)}: no step is so large, so give a smaller one.")
        if self.lr_schedule not in _SCHEDULES:
            raise ValueError(f"unknown lr_schedule {self.lr_schedule!r}: choose one of {', '.join(_SCHEDULES)}.")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}.")
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"warmup_ratio is {self.warmup_ratio}: it is a fraction of the steps, in [0, 1).")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}: it must be positive, or None for no clipping.")
        if self.mixed_precision not in (None, "no", "fp16", "bf16"):
            raise ValueError(f"unknown mixed_precision {self.mixed_precision!r}: choose None, 'fp16' or 'bf16'.")

    def _check_folders(self) -> None:
        if self.output_dir is not None and not isinstance(self.output_dir, str | os.PathLike):
            raise TypeError(f"output_dir is {self.output_dir!r}: give the path of a folder, or None.")
        if self.keep_checkpoints is not None:
            if self.keep_checkpoints < 1:
                raise ValueError(
                    f"keep_checkpoints is {self.keep_checkpoints}: it must be at least 1, or None for all."
                )
            if self.checkpoint_every is None:
                raise ValueError(
                    f"keep_checkpoints is {self.keep_checkpoints}, but checkpoint_every is None: say how often they "
                    "are written, or leave it out."
                )
        if self.checkpoint_every is not None:
            if self.checkpoint_every < 1:
                raise ValueError(f"checkpoint_every is {self.checkpoint_every}: it must be at least 1, or None.")
            if OPTIMIZERS[self.optimizer].is_paged:
                raise ValueError(
                    f"optimizer is {self.optimizer!r}, and checkpoint_every is {self.checkpoint_every}: a resumed run "
                    "would hold all its averages on the GPU, so leave one of them out, or choose 'adamw-8bit'."
                )
            if self.output_dir is None:
                raise ValueError("checkpoint_every needs output_dir: say where the checkpoints go.")

    def lr_factor(self, step: int) -> float:
        """The learning rate's factor, 0…1, at a step counted from 0."""
        warmup = math.ceil(self.warmup_ratio * self.steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return _SCHEDULES[self.lr_schedule]((step - warmup) / max(1, self.steps - warmup))


def _checked_trackers(trackers: Any) -> tuple[Any, ...]:
    if not isinstance(trackers, tuple | list):
        raise TypeError(f"trackers is {trackers!r}: give a tuple of names and tracker objects, as in ('tensorboard',).")
    return tuple(trackers)
