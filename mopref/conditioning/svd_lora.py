"""SVD-LoRA: a low-rank adapter with the preference among its singular values (Panacea, arXiv 2402.02030)."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["PreferenceState", "SVDLoRAConfig", "SVDLoRALayer", "is_adaptable"]


@dataclass(frozen=True)
class SVDLoRAConfig:
    """Settings of the adapters W(λ) = W0 + c · U · diag(σ_1 … σ_k, s·λ_1 … s·λ_m) · Vᵀ.

    The defaults start like LoRA: U = 0, V ~ N(0, 1/n_in), σ = 1, s = 1, so that the adapted weight is W0 for every λ
    and U learns from the first step. :meth:`paper` gives the paper's start, from which U and V learn later.

    Args:
        objectives: the names of the m objectives, in the order of a preference.
        rank: k ≥ 0, the directions that all preferences share.
        preference_rank: p ≥ 1, the directions that each λ_i scales; 1 in the paper.
        scaling: c.
        initialization: "zero-output" (U = 0 as above) or "paper" (U, V ~ N(0, 0.02²), σ = 0, s = 0).
        target_modules: names of the linear layers to adapt, whole or their last parts ("q_proj"); ``None`` for every
            linear layer but a language model's output head.
        layers: indices of the transformer blocks to adapt, negative ones counted from the last; ``None`` for all.
        seed: seeds the initialisation.

    Raises:
        ValueError: a value out of its range, named.
    """

    objectives: tuple[str, ...]
    rank: int = 8
    preference_rank: int = 4
    scaling: float = 1.0
    initialization: Literal["zero-output", "paper"] = "zero-output"
    target_modules: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("objectives", "target_modules", "layers"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ValueError(f"{name} is the single text {value!r}: give a list, such as [{value!r}].")
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError(f"objectives are {self.objectives!r}: give at least one name, each once.")
        if self.rank < 0 or self.preference_rank < 1:
            raise ValueError(f"rank is {self.rank} and preference_rank {self.preference_rank}: at least 0 and 1.")
        if not (self.scaling > 0 and math.isfinite(self.scaling)):
            raise ValueError(f"scaling is {self.scaling}: it must be positive and finite.")
        if self.initialization not in ("zero-output", "paper"):
            raise ValueError(f"unknown initialization {self.initialization!r}: choose 'zero-output' or 'paper'.")

    @classmethod
    def paper(cls, objectives: Sequence[str], rank: int = 8, **others: Any) -> "SVDLoRAConfig":
        """The setting of public re-implementations of the paper: p = 1, c = 512/k, start with σ = 0 and s = 0."""
        settings: dict[str, Any] = {"preference_rank": 1, "scaling": 512 / rank, "initialization": "paper"}
        return cls(objectives=tuple(objectives), rank=rank, **{**settings, **others})

    @property
    def total_rank(self) -> int:
        """k + p·m, the most that the rank of an adapted weight's change can be."""
        return self.rank + self.preference_rank * len(self.objectives)


class PreferenceState:
    """The preference in force, shared by all adapters of a model: rows ``(B, m)``, or one row for the whole batch.

    It stays in force until the next forward sets another: a backward pass may need it again.
    """

    def __init__(self) -> None:
        self.generating = False
        self.enabled = True
        # Gates that generation needs again for its next token, by layer and number of rows.
        self.gates: dict[tuple[nn.Module, int], Tensor] = {}
        self.preferences = None

    @property
    def preferences(self) -> Tensor | None:
        """The preference in force; setting another drops the gates of the one before."""
        return self._preferences

    @preferences.setter
    def preferences(self, preferences: Tensor | None) -> None:
        self._preferences = preferences
        self.gates.clear()

    @contextmanager
    def generation(self) -> Iterator[None]:
        """Within this block rows may repeat, for beams and samples, and gates are kept from token to token."""
        self.generating = True
        try:
            yield
        finally:
            self.generating = False
            # The parameters may change before the next one.
            self.gates.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> "PreferenceState":
        # The preference in force may hang on a graph, which cannot be copied, and a copy has run no forward.
        copied = PreferenceState()
        memo[id(self)] = copied
        return copied

    def rows(self, count: int) -> Tensor:
        """The preferences for ``count`` rows of an activation, shape ``(count or 1, m)``."""
        if self.preferences is None:
            raise ValueError(
                "no preference is set: call model(..., preferences=λ), or use `with model.disabled()` for the base."
            )
        given = self.preferences.shape[0]
        if given in (1, count):
            return self.preferences
        # Elsewhere than in generation a row count that differs is an error.
        if self.generating and count % given == 0:
            return self.preferences.repeat_interleave(count // given, dim=0)
        raise ValueError(
            f"{given} preferences were given, but a layer sees {count} rows: give one preference for each row of the "
            "batch, or a single one for all. (A model that mixes the rows of a batch, such as a mixture of experts, "
            "can take only a single one.)"
        )


class SVDLoRALayer(nn.Module):
    """A frozen linear layer plus c · U · diag(g(λ)) · Vᵀ, with the gate g(λ) = (σ, s·λ_1 … s·λ_1, …, s·λ_m … s·λ_m).

    Rows of one batch may carry different preferences: y += c · ((x V) ∘ g(λ_row)) Uᵀ, exact and in one broadcast.

    Args:
        base_layer: ``nn.Linear``, or GPT-2's ``Conv1D`` (the same map with a transposed weight).
        config: the settings.
        state: where the preference in force is found.
        generator: the source of randomness of the initialisation, on the CPU.

    Attributes:
        U: ``(n_out, k + p·m)``; V: ``(n_in, k + p·m)``; sigma: ``(k,)``; scale: the scalar s.
    """

    def __init__(
        self, base_layer: nn.Module, config: SVDLoRAConfig, state: PreferenceState, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.config = config
        self.state = state
        weight: Tensor = base_layer.weight  # type: ignore[assignment]
        self.transposed = not isinstance(base_layer, nn.Linear)
        first, second = weight.shape
        self.n_out, self.n_in = (second, first) if self.transposed else (first, second)
        total = config.total_rank
        if config.initialization == "paper":
            out_directions = 0.02 * torch.randn(self.n_out, total, generator=generator)
            in_directions = 0.02 * torch.randn(self.n_in, total, generator=generator)
            start = 0.0
        else:
            out_directions = torch.zeros(self.n_out, total)
            in_directions = torch.randn(self.n_in, total, generator=generator) / math.sqrt(self.n_in)
            start = 1.0
        # Adapters train in float32 (float64 beside a float64 base) whatever the base is stored in.
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        self.U = nn.Parameter(out_directions.to(weight.device, dtype))
        self.V = nn.Parameter(in_directions.to(weight.device, dtype))
        self.sigma = nn.Parameter(torch.full((config.rank,), start, device=weight.device, dtype=dtype))
        self.scale = nn.Parameter(torch.tensor(start, device=weight.device, dtype=dtype))

    def gate(self, preferences: Tensor) -> Tensor:
        """g(λ), the singular values: ``(B, m)`` to ``(B, k + p·m)``."""
        members = self.scale * preferences.to(self.scale).repeat_interleave(self.config.preference_rank, dim=1)
        return torch.cat([self.sigma.expand(preferences.shape[0], -1), members], dim=1)

    def delta_weight(self, preference: Tensor) -> Tensor:
        """ΔW(λ) = c · U · diag(g(λ)) · Vᵀ for one preference ``(m,)``: shape ``(n_out, n_in)``."""
        return self.config.scaling * (self.U * self.gate(preference.view(1, -1))) @ self.V.T

    def _gate_in_force(self, count: int) -> Tensor:
        """c · g(λ) for ``count`` rows: c goes with the gate, the smallest tensor here."""
        # A token costs so little that computing a gate anew for each would be a good part of it. A kept gate has no
        # graph, and compiled code fuses its gates.
        keep = self.state.generating and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        gate = self.state.gates.get((self, count)) if keep else None
        if gate is None:
            gate = self.config.scaling * self.gate(self.state.rows(count))
            if keep:
                self.state.gates[self, count] = gate
        return gate

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus the adapter's, for the preference in force."""
        y: Tensor = self.base_layer(x, *args, **kwargs)
        if not self.state.enabled:
            return y
        gate = self._gate_in_force(x.shape[0])
        if x.ndim > 1:
            gate = gate.view(gate.shape[0], *[1] * (x.ndim - 2), gate.shape[1])
        projected = (x.to(self.V.dtype) @ self.V) * gate
        return y + (projected @ self.U.T).to(y.dtype)

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        return f"n_in={self.n_in}, n_out={self.n_out}, rank={self.config.rank}+{self.config.preference_rank}·m"


def is_adaptable(module: nn.Module) -> bool:
    """Whether a module is a linear map that an adapter can wrap: ``nn.Linear``, or ``Conv1D`` of transformers."""
    return type(module) is nn.Linear or (type(module).__name__ == "Conv1D" and hasattr(module, "nf"))
