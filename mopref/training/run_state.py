"""What a resumed run must have in common with the one that wrote its checkpoint, and its model's trained state."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["check_settings", "load_trained_state", "trained_state"]


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
