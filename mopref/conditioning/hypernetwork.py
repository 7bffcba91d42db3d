"""HypernetworkModel: a network that makes the weights of another one from the preference."""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from mopref.argument_kinds import checks_arguments
from mopref.conditioning.conditioned_model import ConditionedModel, weight_like
from mopref.conditioning.conditioning_description import made_of
from mopref.conditioning.conditioning_files import SavedConditioning, read_conditioning
from mopref.conditioning.linear_layer import adapter_dtype
from mopref.conditioning.mlp import make_mlp, mlp_shapes, standardise_preferences
from mopref.conditioning.saved_form import SavedForm, take_on
from mopref.setting_types import checked_seed, python_value, python_values

__all__ = ["HypernetworkModel"]


class HypernetworkModel(SavedConditioning, ConditionedModel):
    """y = base(x; θ(λ)) with all weights made from the preference: θ(λ) = θ_0 + D · [λ̃, e(λ̃)].

    λ̃ is the standardised λ, e a multilayer perceptron from λ̃ to k numbers, and D, ``(P, m + k)``, turns these
    coordinates into a change of all P weights. So the networks of all λ lie in a space of m + k dimensions, and the
    output layer, whose bias is θ_0, has (m + k) · P weights where a plain hypernetwork's has hidden · P.

    D starts at 0, so that the model starts as the base for every λ. λ̃ is among the coordinates because e starts small:
    with e alone all networks move together at first, and may end in one point. One step moves all m + k directions, so
    learning rates should be smaller than for other conditionings, .01 at most; see docs/benchmarks.md.

    Rows that share a preference share its weights, and a batch under one preference is one plain forward of the base.
    The base must not mix the rows of a batch. Gradient checkpointing inside the base is refused.

    Args:
        base_model: any module; its weights are θ_0.
        objectives: the names of the m objectives in the order of a preference, or their number m.
        hidden: widths of the hidden layers of e.
        embedding_size: k ≥ 1.
        vectorize: run the groups of rows that share a preference side by side with ``torch.func.vmap``, which is fast
            for many preferences and small networks. Some bases cannot (language models of transformers, whose control
            flow looks at values): with ``False`` the groups run one after another.
        train_base: whether θ_0 is trained too, as suits a base that starts at random; otherwise it is frozen.
        seed: seeds e; the global generator is not touched.

    Attributes:
        base_model: the base, with θ_0.
        embedding: e.
        directions: Dᵀ, ``(m + k, P)``.

    Raises:
        ValueError: no objective, a name that is there twice, a width below 1, or a base without parameters.
        TypeError: an option of another type, named.

    Source: D. Ha, A. Dai and Q. Le, HyperNetworks (2017); A. Navon et al., Learning the Pareto Front with
    Hypernetworks (2021).

    Example:
        >>> model = HypernetworkModel(nn.Linear(4, 3), objectives=2)
        >>> model(torch.zeros(2, 4), preferences=[[1, 0], [0.5, 0.5]]).shape
        torch.Size([2, 3])
    """

    @checks_arguments(but=("objectives", "hidden", "target_modules"))
    def __init__(
        self,
        base_model: nn.Module,
        objectives: int | Sequence[str],
        hidden: Sequence[int] = (64, 64),
        embedding_size: int = 8,
        vectorize: bool = True,
        train_base: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(objectives)
        hidden, train_base = python_values(hidden, int, "hidden"), python_value(train_base, bool, "train_base")
        embedding_size = python_value(embedding_size, int, "embedding_size")
        like = weight_like(base_model)
        parameters = _generated(base_model)
        self.weight_names, count = tuple(parameters), sum(p.numel() for p in parameters.values())
        self.slots = _slots(base_model, parameters)
        self.vectorize: bool = python_value(vectorize, bool, "vectorize")
        self._settings = {
            "hidden": hidden,
            "embedding_size": embedding_size,
            "vectorize": self.vectorize,
            "train_base": train_base,
            "seed": checked_seed(seed),
        }
        dtype = adapter_dtype(like)
        widths = (self.num_objectives, *hidden, embedding_size)
        self.embedding = make_mlp(widths, torch.Generator().manual_seed(checked_seed(seed))).to(like.device, dtype)
        size = self.num_objectives + embedding_size
        self.directions = nn.Parameter(torch.zeros(size, count, device=like.device, dtype=dtype))
        if not train_base:
            base_model.requires_grad_(False)
        self.base_model = base_model
        self._running = False
        for module in base_model.modules():
            module.register_forward_pre_hook(self._refuse_recomputation)

    def _form(self) -> SavedForm:
        own: dict[str, Tensor] = {
            f"embedding.{name}": parameter for name, parameter in self.embedding.named_parameters()
        }
        return SavedForm(
            "HypernetworkModel",
            self.objectives,
            self._settings,
            # The columns of D are in the order of the weights.
            {name: [*self.base_model.get_parameter(name).shape] for name in self.weight_names},
            own | {"directions": self.directions},
            self.base_model,
            self._settings["train_base"],
        )

    @classmethod
    def load(cls, base_model: nn.Module, folder: str | Path) -> Self:
        """A model with what :meth:`save_pretrained` wrote, on a base of the same architecture.

        A base that was frozen must be the one that it was trained on; the values of one that was trained are taken
        from the folder.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: another kind, another base, or a file that is damaged. The base is unchanged then.
        """

        def weights(recorded: dict[str, Any]) -> dict[str, Any]:
            return {name: [*parameter.shape] for name, parameter in _generated(base_model).items()}

        content = read_conditioning(folder, "HypernetworkModel", _shapes, base_model, weights)
        with made_of(folder):
            model = cls(base_model, content.objectives, **content.settings)
        model.preference_convention = content.convention
        take_on(content, model._form())
        return model

    def _refuse_recomputation(self, module: nn.Module, inputs: Any) -> None:
        """Gradient checkpointing inside the base would run it again with θ_0: wrong gradients, without a word."""
        if not self._running and torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                "the base model recomputes activations in the backward pass, where the weights of the preference are "
                "gone: disable gradient checkpointing in it, or checkpoint the whole HypernetworkModel."
            )

    def weights(self, preferences: Any) -> dict[str, Tensor]:
        """θ(λ): preferences ``(m,)`` or ``(N, m)`` to the base's weights by name, each ``(N, …)``.

        Raises:
            ValueError: preferences that do not lie on the simplex.
        """
        inputs = standardise_preferences(self.checked(preferences, self.directions))
        coordinates = torch.cat([inputs, self.embedding(inputs)], dim=1)
        initial = [self.base_model.get_parameter(name) for name in self.weight_names]
        changes = (coordinates @ self.directions).split([weight.numel() for weight in initial], dim=1)
        return {
            # The sum is rounded to the base's type once.
            name: (weight.to(change.dtype) + change.view(-1, *weight.shape)).to(weight.dtype)
            for name, weight, change in zip(self.weight_names, initial, changes, strict=True)
        }

    def forward(self, *args: Any, preferences: Any = None, **kwargs: Any) -> Any:
        """The base model's forward with the weights of each row's preference.

        With several preferences every tensor among the arguments must have the rows as its first dimension, and the
        outputs too.

        Raises:
            ValueError: no preferences, invalid ones, another number of them than of rows, or outputs that are not rows.
        """
        row_preferences = self.checked(preferences, self.directions)
        leaves, structure = tree_flatten((args, kwargs))
        tensors = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
        if len(row_preferences) > 1:
            _check_rows(tensors, len(row_preferences))

        def run(weights: dict[str, Tensor], inputs: dict[int, Tensor]) -> Any:
            positional, keywords = tree_unflatten([inputs.get(i, leaf) for i, leaf in enumerate(leaves)], structure)
            return self._run(weights, positional, keywords)

        distinct, group_of_row, sizes = _groups(row_preferences)
        if len(distinct) == 1:
            return run({name: weight[0] for name, weight in self.weights(distinct).items()}, tensors)
        parts: list[list[Tensor]] = []
        row_indices: list[Tensor] = []
        for groups, rows in _groups_by_size(group_of_row, sizes):
            weights, inputs = self.weights(distinct[groups]), {i: tensor[rows] for i, tensor in tensors.items()}
            for output, output_rows in self._run_groups(run, weights, inputs, rows):
                output_leaves, output_structure = tree_flatten(output)
                parts.append([_rows_of(leaf, output_rows.shape) for leaf in output_leaves])
                row_indices.append(output_rows.flatten())
        order = torch.cat(row_indices).argsort()
        return tree_unflatten([torch.cat(pieces)[order] for pieces in zip(*parts, strict=True)], output_structure)

    def _run(self, weights: dict[str, Tensor], args: Any, kwargs: Any) -> Any:
        """The base's forward with other weights, by the names that they are generated under."""
        slot_weights = {slot: weights[name] for slot, name in self.slots.items()}
        self._running = True
        try:
            # The slots are tied already; torch's own tying loses weights where a module has two names.
            return functional_call(self.base_model, slot_weights, args, kwargs, tie_weights=False)
        finally:
            self._running = False

    def _run_groups(
        self, run: Callable[..., Any], weights: dict[str, Tensor], inputs: dict[int, Tensor], rows: Tensor
    ) -> list[tuple[Any, Tensor]]:
        """Outputs of groups of one size, each with the rows it is of: side by side, or one group after another."""
        if self.vectorize:
            return [(vmap(run, randomness="different")(weights, inputs), rows)]
        return [
            (run({name: w[g] for name, w in weights.items()}, {i: x[g] for i, x in inputs.items()}), group_rows)
            for g, group_rows in enumerate(rows)
        ]


def _generated(base_model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are made from the preference, in the order of D's columns."""
    return {name: p for name, p in base_model.named_parameters() if p.is_floating_point()}


def _shapes(
    objectives: tuple[str, ...], settings: dict[str, Any], places: dict[str, Any]
) -> dict[str, tuple[int, ...]]:
    """The shapes of e's parameters and of Dᵀ, ``(m + k, P)``."""
    m, k = len(objectives), python_value(settings["embedding_size"], int, "embedding_size")
    perceptron = mlp_shapes((m, *python_values(settings["hidden"], int, "hidden"), k))
    return {f"embedding.{name}": shape for name, shape in perceptron.items()} | {
        "directions": (m + k, sum(prod(shape) for shape in places.values()))
    }


def _check_rows(tensors: dict[int, Tensor], num_preferences: int) -> None:
    for tensor in tensors.values():
        if tensor.layout is not torch.strided or tensor.is_nested:
            raise ValueError(
                "an input is a sparse or nested tensor, whose rows cannot be told apart: give a dense one, as "
                ".to_dense() makes it."
            )
        if tensor.ndim == 0 or len(tensor) != num_preferences:
            raise ValueError(
                f"{num_preferences} preferences were given, but an input has shape {tuple(tensor.shape)}: give one "
                "preference for each row of every input, or a single one for all."
            )


def _slots(base_model: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, str]:
    """Every place that holds a parameter, and the name that the parameter is generated under."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    return {
        f"{prefix}.{attribute}" if prefix else attribute: names[id(parameter)]
        for prefix, module in base_model.named_modules()
        for attribute, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if id(parameter) in names
    }


def _groups(preferences: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct preferences ``(G, m)``, the group of each row ``(B,)``, and the groups' sizes ``(G,)``."""
    if preferences.requires_grad:
        # One row alone, so that each gets the gradient of its own loss.
        index = torch.arange(len(preferences), device=preferences.device)
        return preferences, index, torch.ones_like(index)
    return torch.unique(preferences, dim=0, return_inverse=True, return_counts=True)


def _groups_by_size(group_of_row: Tensor, sizes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each size, the groups that have it, ``(n,)``, and the rows of each, ``(n, size)``: these run together."""
    # Rows sorted by group, and where each group starts among them.
    order = group_of_row.argsort(stable=True)
    starts = sizes.cumsum(dim=0) - sizes
    for size in sizes.unique().tolist():
        groups = (sizes == size).nonzero()[:, 0]
        yield groups, order[starts[groups, None] + torch.arange(size, device=order.device)]


def _rows_of(part: Any, shape: torch.Size) -> Tensor:
    """An output of rows of that shape, ``(size, …)`` or ``(groups, size, …)``, as plain rows."""
    if isinstance(part, Tensor) and part.shape[: len(shape)] == shape:
        return part.flatten(0, len(shape) - 1)
    is_tensor = isinstance(part, Tensor)
    description = f"shape {tuple(part.shape[len(shape) - 1 :])}" if is_tensor else f"a {type(part).__name__}"
    raise ValueError(
        f"the base model returned {description} for {shape[-1]} rows: with several preferences every output must be a "
        "tensor with the rows as its first dimension (a loss averaged over rows is not, nor is a language model's "
        "cache: give use_cache=False)."
    )
