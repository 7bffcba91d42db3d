"""PackedWeights: copies of frozen weights in the order in which oneDNN's products read them, faster for few rows."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from types import MethodType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mopref.conditioning.linear_layer import plain_weight

__all__ = ["PackedWeights", "pack", "packed_beside", "packed_product"]


def packed_product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """X Wᵀ + b with a weight of :class:`PackedWeights`: ``(…, n_in)`` to ``(…, n_out)``."""
    # PyTorch's own operator, which its compiler puts where weights are frozen.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return product


def pack(weight: Tensor) -> Tensor:
    """A copy of a weight ``(n_out, n_in)`` for :func:`packed_product`, which nothing else can read."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return packed


@cache
def _is_available() -> bool:
    """Whether this build of PyTorch has both operators, and they are what is said here."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
    try:
        return torch.equal(packed_product(x, pack(weight), None), x @ weight.T)
    except (AttributeError, RuntimeError, TypeError):
        return False


class _Copy(NamedTuple):
    """A packed weight, and by what it is known to be the layer's own still."""

    # Its memory is kept, so that no other weight can come to lie there.
    original: Tensor
    version: int
    packed: Tensor


class PackedWeights:
    """Packed copies of the weights of a model's linear layers, each made when it is first asked for.

    Of ``nn.Linear`` itself with a frozen weight of float32 on the CPU, plain in memory: none that is trained, quantised
    or sharded. A weight that was changed since in place, or replaced, is packed anew.

    Args:
        model: the model; it is not changed.

    Raises:
        ValueError: it has no such layer, or this build of PyTorch has no such products.
    """

    def __init__(self, model: nn.Module) -> None:
        if not _is_available():
            raise ValueError("this build of PyTorch has no oneDNN, which packs weights: generate without.")
        self._layers = [layer for layer in model.modules() if _can_pack(layer)]
        if not self._layers:
            raise ValueError(
                f"{type(model).__name__} has no weight to pack: only those of nn.Linear in float32 on the CPU that "
                "require no gradient are. Generate without packed weights."
            )
        self._copies: dict[nn.Module, _Copy] = {}

    @property
    def num_bytes(self) -> int:
        """The memory of the copies that were made."""
        return sum(copy.original.nbytes for copy in self._copies.values())

    def of(self, layer: nn.Module) -> Tensor | None:
        """A layer's packed weight; ``None`` where it cannot be packed."""
        copy = self._copies.get(layer)
        weight: Any = layer.weight
        if copy is not None and copy.version == weight._version and copy.original.data_ptr() == weight.data_ptr():
            return copy.packed
        if not _can_pack(layer):
            self._copies.pop(layer, None)
            return None
        self._copies[layer] = _Copy(weight.detach(), weight._version, pack(weight))
        return self._copies[layer].packed

    @contextmanager
    def in_place(self, left_out: frozenset[nn.Module] = frozenset()) -> Iterator[None]:
        """Within this block the layers make their products with packed weights; afterwards they are as before.

        Args:
            left_out: layers that stay as they are.
        """

        def forward(layer: nn.Linear, input: Tensor) -> Tensor:
            x = input
            if _is_plain(x) and (packed := self.of(layer)) is not None:
                return packed_product(x, packed, layer.bias)
            return functional.linear(x, layer.weight, layer.bias)

        with ExitStack() as stack:
            for layer in self._layers:
                # A forward of somebody else's stays.
                if layer not in left_out and "forward" not in vars(layer):
                    # A method of the layer: a copy of the model gets one of its own layer.
                    vars(layer)["forward"] = MethodType(forward, layer)
                    stack.callback(vars(layer).pop, "forward", None)
            yield


def packed_beside(packed: PackedWeights | None, adapters: Iterable[nn.Module]) -> AbstractContextManager[None]:
    """Within this block layers without an adapter use packed weights, if there are any; adapters ask for their own."""
    if packed is None:
        return nullcontext()
    return packed.in_place(frozenset(cast(nn.Module, adapter.base_layer) for adapter in adapters))


def _can_pack(layer: nn.Module) -> bool:
    if type(layer) is not nn.Linear:
        return False
    weight = plain_weight(layer)
    return (
        weight is not None
        and not weight.requires_grad
        # It would not tell of changes.
        and not weight.is_inference()
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and (layer.bias is None or layer.bias.dtype == torch.float32)
    )


def _is_plain(x: Any) -> bool:
    return (
        type(x) is Tensor
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )
