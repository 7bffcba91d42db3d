"""How a language model uses its linear layers, seen in one small forward: which can be adapted, and where rows lie.

What a layer is called, and which class it is of, does not tell whether the model calls it, or multiplies with its
weight itself, or shows it the tokens that a router chose. Two rows of three tokens tell.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mopref.conditioning.guarded_weight import LOOKS
from mopref.conditioning.linear_layer import layer_sizes
from mopref.conditioning.preference_state import Layout
from mopref.evaluation_mode import evaluation_mode

__all__ = ["LayerUse", "layer_uses"]

# Numbers that tell rows, tokens and their product apart.
_ROWS, _TOKENS = 2, 3


@dataclass
class LayerUse:
    """What one forward did with a linear layer.

    Attributes:
        shapes: of the activations that it was called with.
        is_linear_map: whether each call gave one tensor, with another number in the last dimension alone.
        weight_read: whether its weight was computed with outside its own forward.
    """

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    is_linear_map: bool = True
    weight_read: bool = False

    @property
    def layout(self) -> Layout:
        """Where its activations have the rows of the batch."""
        if all(shape[:1] == (_ROWS,) or shape[:-1] == (_ROWS * _TOKENS,) for shape in self.shapes):
            return "rows first"
        if all(len(shape) > 2 and shape[1] == _ROWS for shape in self.shapes):
            return "tokens first"
        return "mixed"

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be adapted; ``None`` where it can."""
        if self.weight_read:
            return "the model computes with its weight itself instead of calling it"
        if not self.shapes:
            return "a forward over text does not call it"
        if not self.is_linear_map:
            return "it makes something else of its input than one product with its weight"
        return None


def layer_uses(base_model: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, LayerUse] | None:
    """How a forward of two rows of three tokens uses each of the layers, by their names, in both modes of a module.

    Nothing is known of a network that takes no token ids, of one that such a forward ends in an error, and of one whose
    weights would have to be fetched from a disk or from another memory for it.

    Args:
        base_model: any module.
        layers: its linear layers.

    Returns:
        ``None`` where nothing is known.
    """
    inputs = _token_inputs(base_model)
    if inputs is None:
        return None
    uses = {name: LayerUse() for name in layers}
    try:
        with _untouched(base_model), _WeightReads(base_model, layers, uses):
            base_model(**inputs)
            base_model.train()
            base_model(**inputs)
    except Exception:
        # Whatever it is, the model's own forward will tell when it is used.
        return None
    return uses


@contextmanager
def _untouched(base_model: nn.Module) -> Iterator[None]:
    """Within this block a module runs without a trace: modes, buffers and generators are put back."""
    buffers = {name: buffer.clone() for name, buffer in base_model.named_buffers()}
    with evaluation_mode(base_model), torch.no_grad(), torch.random.fork_rng():
        try:
            yield
        finally:
            for name, buffer in base_model.named_buffers():
                if name in buffers and buffer.shape == buffers[name].shape:
                    buffer.copy_(buffers[name])


def _token_inputs(base_model: nn.Module) -> dict[str, Tensor] | None:
    """Arguments of a small forward; ``None`` where the module is no language model that can be run at once."""
    if getattr(base_model, "main_input_name", "") != "input_ids" or _is_offloaded(base_model):
        return None
    try:
        weight = base_model.get_input_embeddings().weight  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    if weight.is_meta:
        return None
    # Tokens that stand for images or for padding are at the ends of a vocabulary.
    count = _ROWS * _TOKENS
    first = max(0, min(weight.shape[0] // 2, weight.shape[0] - count))
    ids = ((first + torch.arange(count, device=weight.device)) % weight.shape[0]).view(_ROWS, _TOKENS)
    if getattr(getattr(base_model, "config", None), "is_encoder_decoder", False):
        return {"input_ids": ids, "decoder_input_ids": ids}
    return {"input_ids": ids}


def _is_offloaded(base_model: nn.Module) -> bool:
    places = set(getattr(base_model, "hf_device_map", {}).values())
    return len(places) > 1 and bool(places & {"cpu", "disk"})


class _WeightReads(TorchFunctionMode):
    """Within this block, calls of the layers and computations with their weights are written into their uses."""

    def __init__(self, base_model: nn.Module, layers: Mapping[str, nn.Module], uses: Mapping[str, LayerUse]) -> None:
        super().__init__()
        weights = {name: getattr(layer, "weight", None) for name, layer in layers.items()}
        self._uses = {id(weight): uses[name] for name, weight in weights.items() if isinstance(weight, Tensor)}
        # Weights whose owner is running: also an embedding that shares its weight with the output head.
        self._owned: list[int] = []
        self._handles: list[Any] = []
        for name, layer in layers.items():
            self._watch_calls(layer, uses[name])
        for module in base_model.modules():
            own = [id(parameter) for parameter in module.parameters(recurse=False) if id(parameter) in self._uses]
            if own:
                self._watch_owner(module, own)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def _watch_calls(self, layer: nn.Module, use: LayerUse) -> None:
        def after(_: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
            x = args[0] if args else next(iter(kwargs.values()), None)
            use.shapes.append(tuple(x.shape) if isinstance(x, Tensor) else ())
            expected = (*use.shapes[-1][:-1], layer_sizes(layer)[0])
            use.is_linear_map &= isinstance(output, Tensor) and tuple(output.shape) == expected

        self._handles.append(layer.register_forward_hook(after, with_kwargs=True))

    def _watch_owner(self, module: nn.Module, own: list[int]) -> None:
        def before(*_: Any) -> None:
            self._owned += own

        def after(*_: Any) -> None:
            del self._owned[-len(own) :]

        self._handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in LOOKS:
            for value in (*args, *kwargs.values()):
                if id(value) in self._uses and id(value) not in self._owned:
                    self._uses[id(value)].weight_read = True
        return function(*args, **kwargs)
