"""A wrapped layer's weight, to be looked at and not to be computed with.

Models ask a layer's weight for its type or device as well as calling the layer. Some multiply with it themselves, and
would leave the adapter out without a word.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["LOOKS", "GuardedWeight"]

# What looks at a tensor and not at its numbers: these methods, and the getters of the properties below.
_METHODS = frozenset(
    {
        Tensor.dim,
        Tensor.size,
        Tensor.numel,
        Tensor.stride,
        Tensor.element_size,
        Tensor.is_floating_point,
        Tensor.is_complex,
        Tensor.is_contiguous,
        Tensor.get_device,
        Tensor.__len__,
        torch.is_floating_point,
        torch.is_complex,
        torch.numel,
    }
)
_PROPERTIES = (
    "dtype device shape ndim layout requires_grad is_leaf is_meta is_cuda is_cpu is_sparse is_quantized is_nested "
    "is_xpu is_mps itemsize names grad_fn"
)
LOOKS = _METHODS | {getattr(Tensor, name).__get__ for name in _PROPERTIES.split() if hasattr(Tensor, name)}


class GuardedWeight(Tensor):
    """A tensor with the type, shape and device of a layer's weight, and without its numbers.

    Whatever would compute with it raises. ``nn.TransformerEncoderLayer`` sees that it is no plain tensor, and calls its
    layers instead of taking the fast path around them.

    Args:
        weight: the layer's own.
        shape: ``(n_out, n_in)``, which a packed weight has not.
        layer: what the message calls the layer.
    """

    layer: str

    @staticmethod
    def __new__(cls, weight: Tensor, shape: Sequence[int], layer: str) -> Self:
        """Make one without numbers."""
        make: Any = Tensor._make_wrapper_subclass  # type: ignore[attr-defined]
        guarded: Self = make(cls, tuple(shape), dtype=weight.dtype, device=weight.device)
        guarded.layer = layer
        return guarded

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{type(self).__name__}({self.layer})"

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let what only looks pass, and refuse the rest."""
        if function in LOOKS:
            with torch._C.DisableTorchFunctionSubclass():
                return function(*args, **(kwargs or {}))
        guarded = next((value for value in args if isinstance(value, cls)), None)
        raise ValueError(_message("a layer" if guarded is None else guarded.layer))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Refuse what came past :meth:`__torch_function__`."""
        raise ValueError(_message("a layer"))


def _message(layer: str) -> str:
    return (
        f"{layer} is adapted, but the model computes with its weight itself instead of calling it, so that its adapter "
        "would be left out: name target_modules without it."
    )
