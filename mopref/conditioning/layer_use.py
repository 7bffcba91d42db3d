"""How a language model uses its linear layers, seen in one small forward: which can be adapted, and where rows lie.

What a layer is called, and which class it is of, does not tell whether the model calls it, or multiplies with its
weight itself, or shows it the tokens that a router chose. A few rows of a few tokens tell.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

__all__ = ["LayerUse", "layer_uses", "layouts_of_blocks", "token_inputs"]

# Rows and tokens of two forwards, which tell rows, tokens, their products and a router's choice of tokens apart.
_SIZES = ((2, 3), (3, 5))


@dataclass
class LayerUse:
    """What one forward did with a linear layer.

    Attributes:
        calls: rows and tokens of each forward that called it, and the shape of the activation.
        is_linear_map: whether each call gave one tensor, with another number in the last dimension alone.
        weight_read: whether its weight was computed with outside its own forward.
    """

    calls: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    is_linear_map: bool = True
    weight_read: bool = False

    @property
    def layout(self) -> Layout:
        """Where its activations have the rows of the batch."""
        if all(shape[:1] == (rows,) or shape[:-1] == (rows * tokens,) for rows, tokens, shape in self.calls):
            return "rows first"
        if all(len(shape) > 2 and shape[1] == rows for rows, _, shape in self.calls):
            return "tokens first"
        return "mixed"

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be adapted; ``None`` where it can."""
        if self.weight_read:
            return "the model computes with its weight itself instead of calling it"
        if not self.calls:
            return "a forward over text does not call it"
        if not self.is_linear_map:
            return "it makes something else of its input than one product with its weight"
        return None


def layer_uses(base_model: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, LayerUse] | None:
    """How forwards of a few tokens use each of the layers, by their names, in both modes of a module.

    Nothing is known of a network that takes no token ids, of one that such a forward ends in an error, and of one whose
    weights would have to be fetched from a disk or from another memory for it.

    Args:
        base_model: any module.
        layers: its linear layers.

    Returns:
        ``None`` where nothing is known.
    """
    inputs = [token_inputs(base_model, *sizes) for sizes in _SIZES]
    uses = {name: LayerUse() for name in layers}
    try:
        with _untouched(base_model), _WeightReads(base_model, layers, uses) as watch:
            for sizes, batch, training in zip(_SIZES, inputs, (False, True), strict=True):
                if batch is None:
                    return None
                watch.sizes = sizes
                base_model.train(training)
                base_model(**batch)
    except Exception:
        # Whatever it is, the model's own forward will tell when it is used.
        return None
    return uses


def layouts_of_blocks(base_model: nn.Module, names: Iterable[str]) -> dict[str, Layout]:
    """Where rows lie in the layers of PyTorch's own transformer blocks that take tokens before rows.

    Of a network that is no language model this is all that can be known without its inputs.
    """
    kinds = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    blocks = [
        f"{name}." if name else ""
        for name, part in base_model.named_modules(remove_duplicate=False)
        if isinstance(part, kinds) and not part.self_attn.batch_first
    ]
    return {name: "tokens first" for name in names if any(name.startswith(block) for block in blocks)}


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


def token_inputs(base_model: nn.Module, rows: int, tokens: int) -> dict[str, Tensor] | None:
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
    count = rows * tokens
    first = max(0, min(weight.shape[0] // 2, weight.shape[0] - count))
    ids = ((first + torch.arange(count, device=weight.device)) % weight.shape[0]).view(rows, tokens)
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
        self.sizes = _SIZES[0]
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
            shape = tuple(x.shape) if isinstance(x, Tensor) else ()
            use.calls.append((*self.sizes, shape))
            expected = (*shape[:-1], layer_sizes(layer)[0])
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
