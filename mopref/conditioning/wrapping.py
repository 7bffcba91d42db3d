"""Which linear layers of a base model an adapter wraps, and how it is put in their place.

An adapter is a layer around a linear layer. :func:`select_linear_layers` says around which, :func:`wrap_layers` puts
the adapters in their place, and all adapters of a model read λ from one ``PreferenceState``, which the model sets at
each forward.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeVar, cast

from torch import Tensor, nn

from mopref._warning import warn
from mopref.argument_kinds import checked_texts
from mopref.conditioning.adapter_layer import AdapterLayer
from mopref.conditioning.layer_use import LayerUse, layer_uses, layouts_of_blocks
from mopref.conditioning.linear_layer import is_adaptable
from mopref.conditioning.preference_state import Layout

__all__ = [
    "LayerSelection",
    "block_index",
    "linear_layers",
    "name_pattern",
    "named_layers",
    "refuse_single_text",
    "select_linear_layers",
    "wrap_layers",
]

Adapter = TypeVar("Adapter", bound=AdapterLayer)

# Under these names a module that compiles, shards or recomputes another one holds it.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Mamba's kernels take these weights where they are installed, in training.
_FUSED = (".x_proj", ".dt_proj", ".out_proj")
_STATE_SPACE = "the fused kernels of a state-space layer compute with its weight instead of calling it"


class LayerSelection(NamedTuple):
    """The linear layers that are to be wrapped.

    Attributes:
        layers: by every name that the base model has for them, in the base model's order.
        layouts: where the activations of each have the rows of a batch.
    """

    layers: dict[str, nn.Module]
    layouts: dict[str, Layout]


def select_linear_layers(
    base_model: nn.Module, target_modules: Sequence[str] | str | None = None, blocks: Sequence[int] | None = None
) -> LayerSelection:
    """The linear layers to wrap: those that a target names and that the base model calls.

    Of a language model a small forward tells how each layer is used. Layers that could not be adapted are left out with
    a warning that names them: those whose weight the model computes with itself (Mamba's time steps), those that a
    forward over text does not call (a vision tower), those that see the tokens that a router chose.

    Args:
        base_model: any module; it is not changed.
        target_modules: names of linear layers, whole or their last parts ("q_proj"); ``None`` or "all-linear" for every
            linear layer but a language model's output head.
        blocks: indices of the transformer blocks, negative ones counted from the last; ``None`` for all.

    Raises:
        ValueError: no plain base model, a name or a block that does not exist, a name of layers none of which can be
            adapted, or no layer left.

    Example:
        >>> base = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> list(select_linear_layers(base).layers), list(select_linear_layers(base, blocks=[-1]).layers)
        (['0', '2'], ['2'])
    """
    linear = linear_layers(base_model)
    default = target_modules is None or target_modules == "all-linear"
    if default:
        find_head = getattr(base_model, "get_output_embeddings", None)
        head = None if find_head is None else find_head()
        selection = {name: layer for name, layer in linear.items() if layer is not head}
    else:
        selection = _layers_called(linear, cast(Sequence[str], target_modules))
    if blocks is not None:
        indices = _block_indices(linear, blocks)
        selection = {name: layer for name, layer in selection.items() if block_index(name) in indices}
    uses = layer_uses(base_model, selection) or {}
    obstacles = {name: use.obstacle for name, use in uses.items() if use.obstacle is not None}
    layouts = _layouts(base_model, selection, uses)
    if default:
        obstacles |= {name: _STATE_SPACE for name in _state_space_projections(base_model, selection)}
        routed = "it sees other rows than those of the batch, such as a router's choice of tokens"
        obstacles |= {name: routed for name, layout in layouts.items() if layout == "mixed" and name not in obstacles}
    else:
        _refuse_unfit_targets(obstacles, selection, cast(Sequence[str], target_modules))
    selection = {name: layer for name, layer in selection.items() if name not in obstacles}
    if not selection:
        raise ValueError(
            f"no layer to condition: {type(base_model).__name__} has {len(linear)} linear layers, none of which is "
            f"selected by the target modules {target_modules} in the blocks {blocks}{_told_obstacles(obstacles)}"
            f"{_told_kinds(base_model)}."
        )
    if obstacles:
        warn(f"linear layers without an adapter{_told_obstacles(obstacles)}.")
    return LayerSelection(selection, layouts)


def named_layers(base_model: nn.Module, names: Sequence[str]) -> LayerSelection:
    """The linear layers of these whole names, however else a layer is called and whatever would be selected today.

    Raises:
        ValueError: no plain base model, or a name that no linear layer has.
    """
    linear = linear_layers(base_model)
    for name in names:
        if name not in linear:
            raise ValueError(f"{type(base_model).__name__} has no linear layer {name!r}.")
    chosen = {id(linear[name]) for name in names}
    selection = {name: layer for name, layer in linear.items() if id(layer) in chosen}
    return LayerSelection(selection, _layouts(base_model, selection, layer_uses(base_model, selection) or {}))


def _layouts(base_model: nn.Module, names: Iterable[str], uses: Mapping[str, LayerUse]) -> dict[str, Layout]:
    """Where rows lie in each layer, as far as that is known: by its use, or by the block that it is in."""
    return layouts_of_blocks(base_model, names) | {name: use.layout for name, use in uses.items()}


def _state_space_projections(base_model: nn.Module, names: Iterable[str]) -> list[str]:
    """The projections beside a state-space layer's decay that its fused kernels read instead of calling them."""
    mixers = {name.rpartition(".")[0] for name, _ in base_model.named_parameters() if name.endswith("A_log")}
    return [name for name in names if name.rpartition(".")[0] in mixers and name.endswith(_FUSED)]


def linear_layers(base_model: nn.Module) -> dict[str, nn.Module]:
    """All linear layers of a plain base model, by every name that it has for them.

    Raises:
        ValueError: a base model that is wrapped, compiled in parts, without weights, or a single layer.
    """
    modules = dict(base_model.named_modules(remove_duplicate=False))
    _refuse_wrapped(base_model, modules)
    linear = {name: module for name, module in modules.items() if is_adaptable(module)}
    if "" in linear:
        raise ValueError("the base model is a single linear layer: wrap it as nn.Sequential(layer).")
    for name, layer in linear.items():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name} has no weight yet, as a lazy layer has not before its first forward: run one.")
        if isinstance(weight, Tensor) and weight.is_meta and not hasattr(layer, "_hf_hook"):
            raise ValueError(
                f"{name} is on the meta device, which holds no numbers: load the base model's weights first."
            )
    return linear


def _refuse_wrapped(base_model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    merged = "give the plain base model, such as PreferenceModel's merge(λ) or PEFT's merge_and_unload() returns."
    for name, module in modules.items():
        if hasattr(module, "base_layer") or any(kind.__name__ == "PeftModel" for kind in type(module).__mro__):
            raise ValueError(f"{name or 'the base model'} is wrapped already, by a {type(module).__name__}: {merged}")
        distributed = isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel)
        if distributed or any(part in module._modules for part in _WRAPPERS):
            raise ValueError(
                f"{name or 'the base model'} is wrapped in a {type(module).__name__}, whose names for layers are other "
                "ones than the plain model's: condition the plain model, and compile, distribute or checkpoint it "
                "afterwards."
            )


def _refuse_unfit_targets(
    obstacles: Mapping[str, str], selection: Mapping[str, nn.Module], target_modules: Sequence[str]
) -> None:
    """Refuse a target all of whose layers cannot be adapted."""
    for target in target_modules:
        names = [name for name in selection if _is_called(name, target)]
        if names and all(name in obstacles for name in names):
            raise ValueError(
                f"{target!r} cannot be adapted: {obstacles[names[0]]} ({name_pattern(names[0])}). Leave it out of the "
                "target modules."
            )


def _told_obstacles(obstacles: Mapping[str, str]) -> str:
    """Which layers are left out and why, to follow a statement; layers of several blocks count as one kind."""
    kinds = {name_pattern(name): reason for name, reason in obstacles.items()}
    return "".join(f"; {name}: {reason}" for name, reason in kinds.items())


def _told_kinds(base_model: nn.Module) -> str:
    """Layers whose class is called linear and that are none of PyTorch's, to follow a statement."""
    kinds = {
        type(module).__name__
        for module in base_model.modules()
        if "linear" in type(module).__name__.lower() and not isinstance(module, nn.Linear)
    }
    return f"; layers of the kind {', '.join(sorted(kinds))} cannot be adapted" if kinds else ""


def name_pattern(name: str) -> str:
    """A layer's name with * for each number in it.

    Example:
        >>> name_pattern("model.layers.3.mlp.up_proj")
        'model.layers.*.mlp.up_proj'
    """
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _layers_called(linear: dict[str, nn.Module], target_modules: Sequence[str]) -> dict[str, nn.Module]:
    refuse_single_text("target_modules", target_modules)
    checked_texts(target_modules, "target_modules")
    for target in target_modules:
        if not any(_is_called(name, target) for name in linear):
            endings = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise ValueError(
                f"no linear layer is called {target!r}; those of the model end in {', '.join(endings) or 'nothing'}. "
                "All of them are None or 'all-linear'."
            )
    return {n: layer for n, layer in linear.items() if any(_is_called(n, target) for target in target_modules)}


def _is_called(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")


def _block_indices(linear: dict[str, nn.Module], blocks: Sequence[int]) -> set[int]:
    """The indices from 0 of the blocks, of which negative ones count from the last."""
    count = 1 + max((index for name in linear if (index := block_index(name)) is not None), default=-1)
    for block in blocks:
        if not -count <= block < count:
            raise ValueError(f"block {block} is to be conditioned, but the model has {count} blocks: 0 … {count - 1}.")
    return {block % count for block in blocks}


def wrap_layers(
    base_model: nn.Module, selection: LayerSelection, make: Callable[[nn.Module], Adapter], train_base: bool
) -> dict[str, Adapter]:
    """Put ``make(layer)`` in the place of each layer; the base is changed only when all of them are made.

    A layer that the base has under several names gets one adapter and stays one layer.

    Args:
        base_model: the module that has the layers.
        selection: the layers, as of :func:`select_linear_layers`.
        make: makes the adapter around a layer.
        train_base: whether the base keeps its own parameters' gradients; otherwise they are frozen.

    Returns:
        The adapters, each by the first name of its layer.
    """
    adapters: dict[str, Adapter] = {}
    adapter_of: dict[int, Adapter] = {}
    for name, layer in selection.layers.items():
        if id(layer) not in adapter_of:
            adapter_of[id(layer)] = adapters[name] = adapter = make(layer)
            adapter.layer_name, adapter.layout = name, selection.layouts.get(name, "rows first")
    if not train_base:
        base_model.requires_grad_(False)
    for name, layer in selection.layers.items():
        base_model.set_submodule(name, adapter_of[id(layer)])
    return adapters


def block_index(name: str) -> int | None:
    """The index of the block that a module belongs to: the first number in its dotted name.

    Example:
        >>> block_index("model.layers.3.mlp.up_proj")
        3
    """
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def refuse_single_text(name: str, value: Any) -> None:
    """Refuse a text where a list of texts is meant, since its letters would be taken for the entries, and a set.

    Raises:
        ValueError: ``value`` is a text, or a set, whose order is another one in every process.
    """
    if isinstance(value, str):
        raise ValueError(f"{name} is the single text {value!r}: give a list, such as [{value!r}].")
    if isinstance(value, Set):
        raise ValueError(f"{name} is {value!r}, which has no order: give a list.")
