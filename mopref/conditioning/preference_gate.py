"""PreferenceGate: how the singular values follow the preference beyond a straight line."""

import math
from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

__all__ = [
    "GATES",
    "GATE_PARTS",
    "SHARED_GATE",
    "PreferenceGate",
    "gate_change",
    "gate_generator",
    "gate_shapes",
    "saved_gate_change",
]

# What SVDLoRAConfig.gate may be: affine in λ, one network for all layers, or one for each.
GATES = ("linear", "shared-mlp", "layer-mlp")
# The tensors of a gate as an adapter folder names them, behind the name of its layer or the one for all.
GATE_PARTS = ("gate_mixture", "gate_weight", "gate_bias")
SHARED_GATE = "shared_gate"
_HIDDEN = 32
_HALF = (torch.float16, torch.bfloat16)


def gate_change(mixture: Tensor, weight: Tensor, bias: Tensor, preferences: Tensor) -> Tensor:
    """D · tanh(A (m·λ − 1) + b), 0 throughout where D = 0: ``(B, m)`` to ``(B, k + p·m)``.

    Args:
        mixture: D, ``(k + p·m, h)``.
        weight: A, ``(h, m)``.
        bias: b, ``(h,)``.
        preferences: λ, ``(B, m)``; m·λ − 1 is 0 at the centre.

    Example:
        >>> gate_change(torch.ones(1, 1), torch.tensor([[1.0, 0.0]]), torch.zeros(1), torch.tensor([[0.5, 0.5]]))
        tensor([[0.]])
    """
    centred = preferences.shape[-1] * preferences - 1
    return torch.tanh(centred @ weight.T + bias) @ mixture.T


def gate_shapes(gate: str, objectives: int, total_rank: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a gate's tensors by their names in an adapter folder; none of a linear one."""
    if gate == "linear":
        return {}
    return dict(zip(GATE_PARTS, ((total_rank, _HIDDEN), (_HIDDEN, objectives), (_HIDDEN,)), strict=True))


def gate_generator(seed: int) -> torch.Generator:
    """The source of the gates' random numbers, another than the factors': these are the same whatever the gate."""
    # A generator takes seeds of 64 bits.
    return torch.Generator().manual_seed((seed * 6364136223846793005 + 1442695040888963407) % 2**63)


class PreferenceGate(nn.Module):
    """What is added to the affine gate: δ(λ) = D · tanh(A (m·λ − 1) + b), with D = 0 at the start.

    A ~ N(0, 1/m) and b ~ N(0, 1). It stays in single precision where a model is brought to half.

    Args:
        objectives: m.
        total_rank: k + p·m, the number of singular values.
        like: a tensor by whose device and type its parameters are made.
        generator: the source of randomness, on the CPU.

    Attributes:
        mixture: D, ``(k + p·m, h)``; weight: A, ``(h, m)``; bias: b, ``(h,)``.
    """

    def __init__(self, objectives: int, total_rank: int, like: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        weight = torch.randn(_HIDDEN, objectives, generator=generator) / math.sqrt(objectives)
        bias = torch.randn(_HIDDEN, generator=generator)
        self.mixture = nn.Parameter(torch.zeros(total_rank, _HIDDEN).to(like))
        self.weight, self.bias = (nn.Parameter(part.to(like)) for part in (weight, bias))

    @property
    def parts(self) -> dict[str, Tensor]:
        """What is saved, by name."""
        return dict(zip(GATE_PARTS, (self.mixture, self.weight, self.bias), strict=True))

    def forward(self, preferences: Tensor) -> Tensor:
        """δ(λ): ``(B, m)`` to ``(B, k + p·m)``, in the type of its parameters, whatever autocast says."""
        with torch.autocast(self.mixture.device.type, enabled=False):
            return gate_change(self.mixture, self.weight, self.bias, preferences.to(self.mixture))

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # As of an AdapterLayer: half precision is meant for the base.
        def moved(tensor: Tensor) -> Tensor:
            result = function(tensor)
            return tensor.to(result.device) if result.dtype in _HALF and tensor.dtype not in _HALF else result

        return super()._apply(moved, recurse)


def saved_gate_change(tensors: Mapping[str, Tensor], layer: str, preferences: Tensor) -> Tensor | float:
    """δ(λ) of a layer from the tensors of an adapter folder; 0 of a linear gate."""
    for owner in (layer, SHARED_GATE):
        if f"{owner}.{GATE_PARTS[0]}" in tensors:
            mixture, weight, bias = (tensors[f"{owner}.{part}"] for part in GATE_PARTS)
            return gate_change(mixture, weight, bias, preferences.to(mixture))
    return 0.0
