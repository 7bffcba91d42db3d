"""Checkpoints from before an adapter's scale had a dimension."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from mopref.training.run_state import trained_state

__all__ = ["with_todays_shapes"]


def with_todays_shapes(state: dict[str, Any], model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """A checkpoint's state in which a number ``()`` has the shape ``(1,)`` that it has here, with its averages.

    Args:
        state: as a checkpoint holds it, not checked yet.
        model: what is trained.
        optimizer: of its parameters.
    """
    own = {name: value.shape for name, value in trained_state(model).items()}
    parameters = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    trained, moments = state.get("model"), state.get("optimizer")
    if isinstance(trained, Mapping):
        state = {**state, "model": {name: _shaped(value, own.get(name)) for name, value in trained.items()}}
    if isinstance(moments, Mapping) and isinstance(moments.get("state"), Mapping):
        entries = {
            index: {key: value if key == "step" else _shaped(value, shape) for key, value in entry.items()}
            if isinstance(entry, Mapping)
            else entry
            for index, entry in moments["state"].items()
            for shape in [parameters[index] if isinstance(index, int) and 0 <= index < len(parameters) else None]
        }
        state = {**state, "optimizer": {**moments, "state": entries}}
    return state


def _shaped(value: Any, shape: tuple[int, ...] | None) -> Any:
    return value.view(1) if isinstance(value, Tensor) and value.ndim == 0 and shape == (1,) else value
