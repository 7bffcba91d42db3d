"""What a resumed run must have in common with the one that wrote its checkpoint, and its model's trained state."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mopref.training.config import TrainerConfig

__all__ = [
    "check_settings",
    "fixed_settings",
    "load_trained_state",
    "tell_other_rate",
    "trained_state",
]

# The share by which a learning rate may be another one before it is told.
_SAME_RATE = 0.01


def fixed_settings(config: TrainerConfig) -> dict[str, Any]:
    """The settings that must not change when a run is resumed; ``steps`` may grow."""
    settings = dict(vars(config))
    for name in ("steps", "output_dir", "checkpoint_every", "log_every", "trackers", "cpu", "progress"):
        del settings[name]
    # Both say the same.
    settings["mixed_precision"] = None if settings["mixed_precision"] == "no" else settings["mixed_precision"]
    return settings


def check_settings(own: Mapping[str, Any], checkpoint: Mapping[str, Any], folder: str | Path) -> None:
    """Refuse a checkpoint of a run with other settings.

    Raises:
        ValueError: the first setting that differs, with both values.
    """
    for name, value in own.items():
        if checkpoint.get(name) != value:
            raise ValueError(
                f"{folder} was trained with {name} = {checkpoint.get(name)}, not {value}: resume with the same "
                "setting, or start a new run."
            )


def tell_other_rate(config: TrainerConfig, step: int, rate: float, folder: str | Path) -> None:
    """Tell that a resumed run's learning rate is not the one that its checkpoint's run would have gone on with.

    A schedule runs over all steps, so that with more of them the rate of the same step is another one.

    Args:
        config: of the resumed run.
        step: how many are done.
        rate: the learning rate of the last one.
        folder: the checkpoint, for the message.

    Warns:
        UserWarning: the rates differ, with both.
    """
    if step == 0:
        return
    own = config.learning_rate * config.lr_factor(step - 1)
    if abs(own - rate) > _SAME_RATE * max(own, rate):
        warnings.warn(
            f"{folder} had the learning rate {rate:.3g} in its last step, where {config.lr_schedule!r} over steps = "
            f"{config.steps} has {own:.3g}, and goes on from there: the run began with another number of steps, and is "
            "not what a single run of this length would be.",
            stacklevel=5,
        )


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The trainable parameters and the buffers by name; frozen parameters are the base model's own."""
    frozen = {name for name, parameter in model.named_parameters(remove_duplicate=False) if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if name not in frozen}


def load_trained_state(model: nn.Module, state: Mapping[str, Tensor], folder: str | Path) -> None:
    """Copy a state given by :func:`trained_state` into the model.

    Raises:
        ValueError: names or shapes that differ; nothing is copied then.
    """
    own = trained_state(model)
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    state_shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != state_shapes:
        differing = sorted(n for n in shapes.keys() | state_shapes.keys() if shapes.get(n) != state_shapes.get(n))
        raise ValueError(
            f"{folder} belongs to another model: {differing[0]!r} has shape {state_shapes.get(differing[0])} there "
            f"and {shapes.get(differing[0])} here ({len(differing)} such entries)."
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(state[name])
