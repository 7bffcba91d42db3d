"""TrainerConfig: the settings of a training run, checked when they are made."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["TrainerConfig"]

# The learning rate's factor over the progress 0…1 after the warm-up.
_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of a training run.

    Args:
        steps: optimiser steps.
        batch_size: data rows in one forward, on each process; a multiple of ``preferences_per_step``.
        preferences_per_step: G, the preferences drawn for one forward, on each process; its rows are shared evenly
            among them. 1 is the paper's setting (arXiv 2402.02030).
        gradient_accumulation_steps: forwards whose gradients are averaged for one step. Each draws its own
            preferences, so that a group's mean loss is complete before it is scalarized.
        learning_rate: the peak learning rate of AdamW.
        weight_decay: AdamW's decoupled weight decay.
        lr_schedule: "constant", "linear" or "cosine", falling to 0 at the last step.
        warmup_ratio: the fraction of the steps over which the learning rate rises from 0.
        max_grad_norm: gradients are scaled down to this Euclidean norm; ``None`` for no clipping.
        mixed_precision: ``None``, "fp16" or "bf16", by accelerate's autocast.
        seed: seeds everything random in the run.
        output_dir: folder of the checkpoints and of trackers' logs.
        checkpoint_every: write ``output_dir/checkpoint-N`` every so many steps; ``None`` for none.
        log_every: steps between entries of ``trainer.history`` and of the trackers.
        trackers: accelerate's trackers: names such as "tensorboard" or "wandb", or ``GeneralTracker`` objects.
        cpu: stay on the CPU where there is an accelerator.
        progress: show a progress bar with the loss of each objective.

    Raises:
        ValueError: a value out of its range, named.
    """

    steps: int = 1000
    batch_size: int = 8
    preferences_per_step: int = 4
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    lr_schedule: str = "cosine"
    warmup_ratio: float = 0.05
    max_grad_norm: float | None = 1.0
    mixed_precision: str | None = None
    seed: int = 0
    output_dir: str | Path | None = None
    checkpoint_every: int | None = None
    log_every: int = 10
    trackers: tuple[Any, ...] = ()
    cpu: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "preferences_per_step", "gradient_accumulation_steps", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate is {self.learning_rate}: it must be positive and finite.")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay}: it must be ≥ 0.")
        if self.lr_schedule not in _SCHEDULES:
            raise ValueError(f"unknown lr_schedule {self.lr_schedule!r}: choose one of {', '.join(_SCHEDULES)}.")
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"warmup_ratio is {self.warmup_ratio}: it is a fraction of the steps, in [0, 1).")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm}: it must be positive, or None for no clipping.")
        if self.mixed_precision not in (None, "no", "fp16", "bf16"):
            raise ValueError(f"unknown mixed_precision {self.mixed_precision!r}: choose None, 'fp16' or 'bf16'.")
        if self.checkpoint_every is not None:
            if self.checkpoint_every < 1:
                raise ValueError(f"checkpoint_every is {self.checkpoint_every}: it must be at least 1, or None.")
            if self.output_dir is None:
                raise ValueError("checkpoint_every needs output_dir: say where the checkpoints go.")

    def lr_factor(self, step: int) -> float:
        """The learning rate's factor, 0…1, at a step counted from 0."""
        warmup = math.ceil(self.warmup_ratio * self.steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return _SCHEDULES[self.lr_schedule]((step - warmup) / max(1, self.steps - warmup))
