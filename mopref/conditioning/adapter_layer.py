"""AdapterLayer: what every layer around a linear layer shares, which is how it stands in for the layer it wraps."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from mopref.conditioning.guarded_weight import GuardedWeight
from mopref.conditioning.linear_layer import layer_sizes, weight_of
from mopref.conditioning.preference_state import Layout, PreferenceState

__all__ = ["AdapterLayer"]

_HALF = (torch.float16, torch.bfloat16)


class AdapterLayer(nn.Module):
    """A layer around a linear layer of a base model, under the preference in force.

    It has the attributes of the layer it wraps. What it adds stays in single precision where the model is brought to
    half. Its ``weight`` can be looked at, for its type and its device; a model
    that computes with it would leave the adapter out, and is refused.

    Args:
        base_layer: the linear layer.
        state: holds the preference in force.

    Attributes:
        layer_name: the name of the layer in the base model, for messages.
        layout: where the layer's activations have the rows of a batch.
    """

    def __init__(self, base_layer: nn.Module, state: PreferenceState) -> None:
        super().__init__()
        self.base_layer, self.state = base_layer, state
        self.n_out, self.n_in = layer_sizes(base_layer)
        self.layer_name = "a layer"
        self.layout: Layout = "rows first"

    @property
    def weight(self) -> Tensor:
        """The wrapped layer's weight, to be looked at only."""
        return GuardedWeight(weight_of(self.base_layer), (self.n_out, self.n_in), self.layer_name)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Before base_layer is set there is nothing to stand in for.
            base_layer = self.__dict__.get("_modules", {}).get("base_layer")
            if base_layer is None or name.startswith("__"):
                raise
            return getattr(base_layer, name)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # ``model.to(torch.bfloat16)`` is meant for the base: in half precision an adapter's steps are lost to rounding.
        def moved(tensor: Tensor) -> Tensor:
            result = function(tensor)
            return tensor.to(result.device) if result.dtype in _HALF and tensor.dtype not in _HALF else result

        super()._apply(moved, recurse=False)
        for name, part in self.named_children():
            part._apply(function if name == "base_layer" else moved)
        return self

    def base_output(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What the wrapped layer makes of x.

        Raises:
            TypeError: something else than a product with its weight, to which another one can be added.
        """
        y = self.base_layer(x, *args, **kwargs)
        shape = (*x.shape[:-1], self.n_out)
        if not isinstance(y, Tensor) or tuple(y.shape) != shape or x.shape[-1] != self.n_in:
            found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise TypeError(
                f"{self.layer_name} makes {found} of an input of shape {tuple(x.shape)}, which is no product with its "
                f"weight {(self.n_out, self.n_in)}: it cannot be adapted, so name target_modules without it."
            )
        return y

    def row_preferences(self, x: Tensor) -> Tensor:
        """The preferences in force for an activation, ``(1, m)`` or one for each row."""
        return self.state.rows(x.shape, self.layout, self.layer_name)
