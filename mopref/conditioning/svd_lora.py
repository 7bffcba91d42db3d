"""SVD-LoRA: a low-rank adapter with the preference among its singular values (Panacea, arXiv 2402.02030)."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from mopref._checked_files import is_readable_text
from mopref._sharded import whole_tensor
from mopref.conditioning.adapter_layer import AdapterLayer
from mopref.conditioning.coordinates import coordinates_of
from mopref.conditioning.linear_layer import adapter_device, adapter_dtype, is_transposed, weight_of
from mopref.conditioning.packed_weights import packed_product
from mopref.conditioning.preference_core import CORE_PARTS, CORES, core_matrix, core_start, core_weights, through_cores
from mopref.conditioning.preference_gate import GATES, SHARED_GATE, PreferenceGate
from mopref.conditioning.preference_state import PreferenceState
from mopref.conditioning.wrapping import refuse_single_text
from mopref.setting_types import checked_seed, python_value, python_values, set_python_values

__all__ = ["SVDLoRAConfig", "SVDLoRALayer", "check_ranks", "gate_of", "own_parameters", "part_names"]

# Beyond both, ranks are a slip, or another's attempt to fill the memory: any rank up to 1024 is taken, and more where
# the adapters have at most twice as many numbers as the layers.
_ANY_RANK, _SHARE = 1024, 2
_INITIALIZATIONS = ("zero-output", "zero-input", "paper", "pblora")


@dataclass(frozen=True)
class SVDLoRAConfig:
    """Settings of the adapters W(λ) = W0 + c · U · diag(σ_1 … σ_k, s·λ_1 … s·λ_m) · Vᵀ.

    The defaults start like LoRA: U = 0, V ~ N(0, 1/n_in), σ = 1, s = 1, so that the adapted weight is W0 for every λ
    and U learns from the first step. :meth:`paper` gives the paper's start, from which U and V learn later.

    Affine in λ, such a weight is Σ_i λ_i W(e_i). With a gate of another kind the singular values become
    (σ, s·λ) + D · tanh(A (m·λ − 1) + b), with D = 0 at the start, which is that of the linear gate bit for bit.

    With a full core (PBLoRA, arXiv 2505.06274) matrices stand in the place of singular values,

        W(λ) = W0 + c · (U_1 C_0 V_1ᵀ + U_2 (Σ_i λ_i C_i) V_2ᵀ),   C_0: k × k,   C_i: p·m × p·m

    for the first k columns of U and V, and the other p·m. Such a weight is affine in λ, too. The cores begin as the
    diagonal ones, by which the start is the same.

    Args:
        objectives: the names of the m objectives, in the order of a preference.
        rank: k ≥ 0, the directions that all preferences share.
        preference_rank: p ≥ 1, the directions that each λ_i scales; 1 in the paper.
        scaling: c.
        initialization: "zero-output" (U = 0 as above), "zero-input" (V = 0 and U ~ N(0, 1/(k + p·m)) instead),
            "paper" (U, V ~ N(0, 0.02²), σ = 0, s = 0), or for a full core "pblora", as that method's own code begins
            (U = 0; V, C_0 and C_i uniform in ±1/√n_in, ±1/√k and ±1/(p·m)).
        target_modules: names of the linear layers to adapt, whole or their last parts ("q_proj"); ``None``, or PEFT's
            "all-linear", for every linear layer that can be adapted but a language model's output head.
        layers: indices of the transformer blocks to adapt, negative ones counted from the last; ``None`` for all.
        seed: seeds the initialisation.
        gate: "linear" as above; "shared-mlp", one D, A, b for all layers; or "layer-mlp", one for each, which no set of
            LoRAs that are scaled by λ can stand for (``export_lora_set``).
        core: "diagonal" or "full", as above.

    Raises:
        ValueError: a value out of its range, named; a full core with a curved gate, or the start "pblora" without one.
        TypeError: a value of another type, named.
    """

    objectives: tuple[str, ...]
    rank: int = 8
    preference_rank: int = 4
    scaling: float = 1.0
    initialization: Literal["zero-output", "zero-input", "paper", "pblora"] = "zero-output"
    target_modules: tuple[str, ...] | Literal["all-linear"] | None = None
    layers: tuple[int, ...] | None = None
    seed: int = 0
    gate: Literal["linear", "shared-mlp", "layer-mlp"] = "linear"
    core: Literal["diagonal", "full"] = "diagonal"

    def __post_init__(self) -> None:
        for name in ("objectives", "target_modules", "layers"):
            value = getattr(self, name)
            if name == "target_modules" and isinstance(value, str) and value == "all-linear":
                continue
            refuse_single_text(name, value)
            if value is not None or name == "objectives":
                object.__setattr__(self, name, python_values(value, int if name == "layers" else str, name))
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError(f"objectives are {self.objectives!r}: give at least one name, each once.")
        for name in self.objectives:
            if not is_readable_text(name):
                raise ValueError(
                    f"objectives hold {name!r:.80}, which has control characters in it: choose a name without them."
                )
            # What leads elsewhere; another name with a slash is refused where folders are written.
            if {"", ".", ".."} & set(re.split(r"[/\\]", name)):
                raise ValueError(
                    f"objectives hold {name!r}, which cannot name a folder of its own, in which its LoRA is written: "
                    "choose a name without slashes."
                )
        set_python_values(self, int, "rank", "preference_rank")
        set_python_values(self, float, "scaling")
        object.__setattr__(self, "seed", checked_seed(self.seed))
        if self.rank < 0 or self.preference_rank < 1:
            raise ValueError(
                f"rank is {self.rank} and preference_rank {self.preference_rank}: they must be at least 0 and 1."
            )
        if not (self.scaling > 0 and math.isfinite(self.scaling)):
            raise ValueError(f"scaling is {self.scaling}: it must be positive and finite.")
        for name, words in (("initialization", _INITIALIZATIONS), ("gate", GATES), ("core", CORES)):
            if (value := getattr(self, name)) not in words:
                raise ValueError(f"{name} is {value!r:.80}: choose {' or '.join(map(repr, words))}.")
        if self.core == "full" and self.gate != "linear":
            raise ValueError(f"gate is {self.gate!r}, and a full core has no singular values: choose one of the two.")
        if self.core != "full" and self.initialization == "pblora":
            raise ValueError("initialization is 'pblora', the start of full cores: choose core='full', or another one.")

    @classmethod
    def paper(cls, objectives: Sequence[str], rank: int = 8, **others: Any) -> Self:
        """The setting of public re-implementations of the paper: p = 1, c = 512/k, start with σ = 0 and s = 0."""
        k = python_value(rank, int, "rank")
        if k < 1:
            raise ValueError(f"rank is {k}: the paper's scaling is 512/k, so it must be at least 1.")
        settings: dict[str, Any] = {"preference_rank": 1, "scaling": 512 / k, "initialization": "paper"}
        return cls(objectives=objectives, rank=k, **{**settings, **others})  # type: ignore[arg-type]

    @property
    def total_rank(self) -> int:
        """k + p·m, the most that the rank of an adapted weight's change can be."""
        return self.rank + self.preference_rank * len(self.objectives)

    @property
    def objective_rank(self) -> int:
        """The rank of what each λ_i scales: p, and p·m with a full core."""
        return self.preference_rank * (len(self.objectives) if self.core == "full" else 1)


def check_ranks(config: SVDLoRAConfig, sizes: Iterable[tuple[int, int]]) -> None:
    """Refuse ranks that no layer has a use for, before memory is taken for them.

    Args:
        config: the settings.
        sizes: ``(n_out, n_in)`` of the layers.

    Raises:
        ValueError: k + p·m is above 1024, and the adapters would have more than twice as many numbers as the layers; or
            full cores of more than 1024² numbers a layer would.
    """
    sides = [tuple(size) for size in sizes]
    own = sum(n_out * n_in for n_out, n_in in sides)
    limit = max(_ANY_RANK, _SHARE * own // max(1, sum(map(sum, sides))))
    if config.total_rank > limit:
        raise ValueError(
            f"rank {config.rank} and preference_rank {config.preference_rank} for {len(config.objectives)} objectives "
            f"make {config.total_rank} directions, and these layers have a use for {limit} at most: lower them."
        )
    numbers = config.rank**2 + len(config.objectives) * config.objective_rank**2 if config.core == "full" else 0
    if numbers > max(_ANY_RANK**2, _SHARE * own // max(1, len(sides))):
        raise ValueError(
            f"rank {config.rank} and preference_rank {config.preference_rank} for {len(config.objectives)} objectives "
            f"make full cores of {numbers} numbers in each layer, more than twice its own: lower them."
        )


def gate_of(sigma: Tensor, scale: Tensor, preferences: Tensor, preference_rank: int) -> Tensor:
    """g(λ) = (σ, s·λ_1 … s·λ_1, …, s·λ_m … s·λ_m), each s·λ_i p times: ``(B, m)`` to ``(B, k + p·m)``."""
    members = scale * preferences.to(scale).repeat_interleave(preference_rank, dim=1)
    return torch.cat([sigma.expand(preferences.shape[0], -1), members], dim=1)


# Whose layers make a new tensor of rows, as PyTorch's own do.
_BITSANDBYTES = "bitsandbytes.nn.modules"


# From so many rows on a CPU is faster at Vᵀ xᵀ, whose result is wide, than at x V, whose result is narrow.
_MANY_ROWS = 32


class _Products(NamedTuple):
    """What a layer multiplies an activation with while generating, looked up once: a module's attributes take long.

    Of the sizes ``(rows, n_in)``, ``(n_out, n_in)``, ``(n_in, k)``, ``(rows, k)`` and ``(k, n_out)``. The weight may be
    a packed one.
    """

    rows_shape: tuple[int, int]
    weight: Tensor
    bias: Tensor | None
    in_directions: Tensor
    gate: Tensor
    out_directions: Tensor

    def output(self, x: Tensor) -> Tensor:
        """What the layer makes of x, by the fewest operations."""
        rows = x.reshape(self.rows_shape)
        many = self.rows_shape[0] >= _MANY_ROWS
        coordinates = (self.in_directions.T @ rows.T).T if many else rows @ self.in_directions
        coordinates = coordinates * self.gate
        if self.weight.is_mkldnn:
            y = packed_product(rows, self.weight, self.bias).addmm_(coordinates, self.out_directions)
            return y.view(*x.shape[:-1], -1)
        # The small product first: added to a large one's result it would read that from memory once more.
        if self.bias is None:
            y = coordinates @ self.out_directions
        else:
            y = torch.addmm(self.bias, coordinates, self.out_directions)
        y.addmm_(rows, self.weight.T)
        return y.view(*x.shape[:-1], -1)


class SVDLoRALayer(AdapterLayer):
    """A frozen linear layer plus c · U · diag(g(λ)) · Vᵀ, with the gate g(λ) = (σ, s·λ_1 … s·λ_1, …, s·λ_m … s·λ_m).

    A gate of another kind than linear adds its δ(λ), 0 at the start. Rows of one batch may carry different preferences:
    y += c · ((x V) ∘ g(λ_row)) Uᵀ, exact and in one broadcast. With a full core C(λ) it is c · (x V) C(λ_row)ᵀ Uᵀ.

    Args:
        base_layer: ``nn.Linear``, or GPT-2's ``Conv1D`` (the same map with a transposed weight).
        config: the settings.
        state: holds the preference in force.
        generator: the source of randomness of the initialisation, on the CPU.
        shared_gate: the gate of all layers together, which belongs to the model; ``None`` where there is none.
        own_generator: the source of randomness of a gate of the layer's own; ``None`` where it has none.

    Attributes:
        U: ``(n_out, k + p·m)``; V: ``(n_in, k + p·m)``; sigma: ``(k,)``; scale: s, ``(1,)``; or instead of these two,
            with a full core, shared_core: C_0, ``(k, k)``; preference_cores: C_1 … C_m, ``(m, p·m, p·m)``.
        own_gate: the layer's own, or ``None``.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        config: SVDLoRAConfig,
        state: PreferenceState,
        generator: torch.Generator,
        shared_gate: PreferenceGate | None = None,
        own_generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(base_layer, state)
        self.config = config
        self.transposed = is_transposed(base_layer)
        total = config.total_rank
        start: float | None
        if config.initialization == "paper":
            out_directions = 0.02 * torch.randn(self.n_out, total, generator=generator)
            in_directions = 0.02 * torch.randn(self.n_in, total, generator=generator)
            start = 0.0
        elif config.initialization == "zero-input":
            out_directions = torch.randn(self.n_out, total, generator=generator) / math.sqrt(total)
            in_directions = torch.zeros(self.n_in, total)
            start = 1.0
        elif config.initialization == "pblora":
            out_directions = torch.zeros(self.n_out, total)
            in_directions = (2 * torch.rand(self.n_in, total, generator=generator) - 1) / math.sqrt(self.n_in)
            start = None
        else:
            out_directions = torch.zeros(self.n_out, total)
            in_directions = torch.randn(self.n_in, total, generator=generator) / math.sqrt(self.n_in)
            start = 1.0
        device, dtype = adapter_device(base_layer), adapter_dtype(weight_of(base_layer))
        self.U = nn.Parameter(out_directions.to(device, dtype))
        self.V = nn.Parameter(in_directions.to(device, dtype))
        if config.core == "full":
            sizes = (len(config.objectives), config.rank, config.preference_rank)
            for name, core in zip(CORE_PARTS, core_start(*sizes, start, generator), strict=True):
                setattr(self, name, nn.Parameter(core.to(device, dtype)))
        else:
            value = cast(float, start)
            self.sigma = nn.Parameter(torch.full((config.rank,), value, device=device, dtype=dtype))
            # In one dimension, since a number without any cannot be sharded.
            self.scale = nn.Parameter(torch.full((1,), value, device=device, dtype=dtype))
        self.own_gate: PreferenceGate | None = None
        if own_generator is not None:
            self.own_gate = PreferenceGate(len(config.objectives), total, self.U, own_generator)
        # In a tuple, which makes it no module of the layer's: it is the model's, once.
        self._shared_gate = (shared_gate,)

    @property
    def curved_gate(self) -> PreferenceGate | None:
        """What the gate adds to the affine one, the layer's own or that of all; ``None`` of a linear gate."""
        return self._shared_gate[0] if self.own_gate is None else self.own_gate

    def gate(self, preferences: Tensor) -> Tensor:
        """g(λ), the singular values: ``(B, m)`` to ``(B, k + p·m)``; of full cores (1, λ), their weights."""
        if self.config.core == "full":
            return core_weights(preferences, self.U)
        affine, curved = gate_of(self.sigma, self.scale, preferences, self.config.preference_rank), self.curved_gate
        return affine if curved is None else affine + curved(preferences).to(affine)

    @property
    def parts(self) -> dict[str, Tensor]:
        """What is saved, by name: U, V, sigma and scale as a number ``()``, or cores; the tensors of its own gate."""
        own = {} if self.own_gate is None else self.own_gate.parts
        parts: dict[str, Tensor] = {name: getattr(self, name) for name in part_names(self.config)}
        if "scale" in parts:
            parts["scale"] = whole_tensor(self.scale).view(())
        return {**parts, **own}

    @property
    def changes_something(self) -> bool:
        """Whether ΔW(λ) is other than 0 for some λ; not before the first step of a training."""
        curved = () if self.curved_gate is None else (self.curved_gate.mixture,)
        own = (getattr(self, name) for name in part_names(self.config) if name not in ("U", "V"))
        values = any(bool(part.detach().any()) for part in (*own, *curved))
        return values and bool(self.U.detach().any()) and bool(self.V.detach().any())

    def delta_weight(self, preference: Tensor) -> Tensor:
        """ΔW(λ) = c · U · diag(g(λ)) · Vᵀ for one preference ``(m,)``: shape ``(n_out, n_in)``."""
        return self.config.scaling * self._out_directions_at(preference) @ self.V.T

    def out_factor(self, preference: Tensor) -> Tensor:
        """c · U · diag(g(λ)), or c · U · C(λ), at one preference ``(m,)``: ΔW(λ) = this times Vᵀ."""
        if self.config.core == "full":
            return self.config.scaling * self._out_directions_at(preference)
        return self.config.scaling * self.U * self.gate(preference.view(1, -1))

    def _out_directions_at(self, preference: Tensor) -> Tensor:
        if self.config.core == "full":
            return self.U @ core_matrix(self.shared_core, self.preference_cores, preference)
        return self.U * self.gate(preference.view(1, -1))

    def _gated(self, coordinates: Tensor, gate: Tensor) -> Tensor:
        """Coordinates x V behind the gate, or the cores, in force."""
        if self.config.core == "full":
            return through_cores(coordinates, gate, self.shared_core, self.preference_cores)
        return coordinates * gate

    def _gate_in_force(self, x: Tensor) -> Tensor:
        """c · g(λ), in the shape that multiplies an activation: c goes with the gate, the smallest tensor here."""
        record = self.state.record
        if record.preference_indices is not None and record.preferences is not None:
            gates = self.config.scaling * self.gate(record.preferences)
            return self.state.of_tokens(gates, x.shape, self.layout, self.layer_name)
        # A token costs so little that computing a gate anew for each would be a good part of it.
        reusable = self._may_keep()
        key = (self, self._count_rows(x))
        gate = self.state.gates.get(key) if reusable else None
        if gate is None:
            gate = self.config.scaling * self.gate(self.row_preferences(x))
            gate = self.state.scaled(gate, x.shape, self.layout, self.layer_name)
            if reusable:
                self.state.gates[key] = gate
        return PreferenceState.beside(gate, x.ndim, self.layout)

    def _may_keep(self) -> bool:
        """Whether what is computed serves the next token, too: it has no graph, and compiled code fuses it."""
        return self.state.generating and not torch.is_grad_enabled() and not torch.compiler.is_compiling()

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output plus the adapter's, for the preference in force."""
        if not args and not kwargs:
            if self._may_keep() and (products := self._kept_products(x)) is not None:
                return products.output(x)
            if self.state.enabled and self._adds_in_place(x):
                return self._in_place(x)
        y = self.base_output(x, *args, **kwargs)
        if not self.state.enabled:
            return y
        in_directions, out_directions = self._directions()
        coordinates = self._gated(coordinates_of(x, in_directions), self._gate_in_force(x))
        return y + (coordinates @ out_directions).to(y.dtype)

    def _kept_products(self, x: Tensor) -> _Products | None:
        """What was made for the token before, or is made now; kept where each row has one token, unlike a prompt's."""
        products = self.state.products.get((self, x.shape))
        if products is None and self.state.enabled and self._is_one_product(x) and not _has_any_global_hook():
            base = cast(nn.Linear, self.base_layer)
            gate = self._gate_in_force(x).expand(*x.shape[:-1], -1).reshape(-1, self.V.shape[1])
            shape = (len(gate), self.n_in)
            packed = None if self.state.packed_weights is None else self.state.packed_weights.of(base)
            weight = base.weight if packed is None else packed
            products = _Products(shape, weight, base.bias, self.V, gate, self.U.T.contiguous())
            if len(gate) == self._count_rows(x):
                self.state.products[self, x.shape] = products
        return products

    def _count_rows(self, x: Tensor) -> int:
        return x.shape[1] if self.layout == "tokens first" and x.ndim > 2 else x.shape[0]

    def _directions(self) -> tuple[Tensor, Tensor]:
        """V and Uᵀ, where there is a backward pass laid out for it.

        Its products with (tokens × n) matrices of gradients are several times faster on a CPU when each direction is
        contiguous.
        """
        if not torch.is_grad_enabled():
            return self.V, self.U.T
        return self.V.T.contiguous().T, self.U.T.contiguous()

    def _adds_in_place(self, x: Tensor) -> bool:
        """Whether the base layer is called with rows of x alone, and its output is nobody else's."""
        base = self.base_layer
        return (
            (type(base) is nn.Linear or type(base).__module__ == _BITSANDBYTES)
            and not (base._forward_hooks or base._forward_pre_hooks or "forward" in vars(base))
            and x.ndim > 1
            and x.shape[-1] == self.n_in
        )

    def _is_one_product(self, x: Tensor) -> bool:
        """Whether the base layer is a product with its weight, of the adapter's type, and the gate another with x V."""
        base = self.base_layer
        return (
            self._adds_in_place(x)
            and type(base) is nn.Linear
            and x.dtype == self.V.dtype == base.weight.dtype
            and not torch.is_autocast_enabled(x.device.type)
            and self.config.core == "diagonal"
        )

    def _in_place(self, x: Tensor) -> Tensor:
        """The same, without a tensor for the adapter's output beside the base layer's."""
        rows = x.reshape(-1, self.n_in)
        in_directions, out_directions = self._directions()
        gated = self._gated(coordinates_of(rows, in_directions).view(*x.shape[:-1], -1), self._gate_in_force(x))
        y: Tensor = self.base_layer(rows)
        coordinates = gated.view(len(rows), -1)
        if y.dtype == coordinates.dtype == out_directions.dtype and not torch.is_autocast_enabled(x.device.type):
            y.addmm_(coordinates, out_directions)
        else:
            y.add_((coordinates @ out_directions).to(y.dtype))
        return y.view(*x.shape[:-1], self.n_out)

    def extra_repr(self) -> str:
        """Sizes and the factor c, for ``print(model)``."""
        ranks = f"{self.config.rank}+{self.config.preference_rank}·m"
        core = ", core=full" if self.config.core == "full" else ""
        return f"n_in={self.n_in}, n_out={self.n_out}, rank={ranks}, scaling={self.config.scaling:g}{core}"


def part_names(config: SVDLoRAConfig) -> tuple[str, ...]:
    """The names of a layer's own tensors, but for those of a curved gate."""
    return ("U", "V", *(CORE_PARTS if config.core == "full" else ("sigma", "scale")))


def own_parameters(adapters: Mapping[str, SVDLoRALayer]) -> dict[str, nn.Parameter]:
    """The parameters of adapters, by ``<layer>.<part>`` as they are saved; those of a gate of all layers once."""
    found: dict[str, nn.Parameter] = {}
    for name, layer in adapters.items():
        for part in part_names(layer.config):
            found[f"{name}.{part}"] = getattr(layer, part)
        gate = layer.curved_gate
        owner = SHARED_GATE if layer.own_gate is None else name
        for part, value in ({} if gate is None else gate.parts).items():
            found[f"{owner}.{part}"] = cast(nn.Parameter, value)
    return found
