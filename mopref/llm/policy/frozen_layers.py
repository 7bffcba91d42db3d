"""Activations below the first adapter: the same at every step and for every preference, so computed once.

What enters the first adapted block is caught where the model hands it over, and later handed over by the block below
it, so that nothing needs to be known of what a model does around its blocks: its own embeddings, masks and positions
stay in use. ``Policy.with_lower_hidden_states`` is the way in; what it cannot do exactly for a model it refuses.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mopref.conditioning.preference_model import PreferenceModel
from mopref.conditioning.wrapping import block_index
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy.padding import padding_traits
from mopref.llm.policy.replaced_forward import replaced_forward
from mopref.mixed_precision import computed_dtype

__all__ = ["block_stack", "check_frozen_layers", "first_adapted_block", "lower_hidden_states", "skip_lower_layers"]

# How many values a block returns, where it returns a tuple, and 0 where it returns its hidden states alone.
_output_lengths: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def first_adapted_block(model: PreferenceModel) -> int:
    """The index of the first block with an adapter: the blocks below it are frozen whatever the preference.

    Raises:
        ValueError: an adapter outside the blocks, below which nothing is known to be frozen.
    """
    indices = [block_index(name) for name in model.adapters]
    if any(index is None for index in indices):
        outside = next(name for name in model.adapters if block_index(name) is None)
        raise ValueError(f"{outside} is adapted outside the transformer blocks: no block is known to stay frozen.")
    return min(cast(list[int], indices))


@contextmanager
def skip_lower_layers(model: PreferenceModel, states: Tensor) -> Iterator[None]:
    """Within this block ``states`` enter the first adapted block, and the blocks below it are not run.

    Args:
        model: the conditioned model.
        states: ``(N, T, H)``, of the inputs that the model is called with.
    """
    lower = _lower_blocks(model)
    with ExitStack() as stack:
        for block in lower:
            forward = _handed_on(block, None if block is not lower[-1] else states)
            stack.enter_context(replaced_forward(block, forward))
        yield


def lower_hidden_states(model: PreferenceModel, sequences: Sequences) -> Tensor:
    """What enters the first adapted block, ``(N, P + R, H)``, 0 where padded.

    Without gradients, in the model's own type, on its device.

    Raises:
        ValueError: a model whose blocks hand over something else than one hidden state for each token.
    """
    lower = _lower_blocks(model)
    if not lower:
        raise ValueError("the first block is adapted, so there is nothing below it to keep: leave frozen_layers off.")
    if not padding_traits(model).left:
        _refuse(model, "its output changes where rows are padded on the left")
    with model.disabled(), evaluation_mode(model), torch.no_grad():
        states = _caught_input(
            model,
            block_stack(model)[len(lower)],
            input_ids=sequences.input_ids,
            attention_mask=sequences.attention_mask,
            position_ids=sequences.position_ids + padding_traits(model).position_offset,
            use_cache=False,
        )
    if states.ndim != 3 or states.shape[:2] != sequences.input_ids.shape:
        _refuse(model, f"its blocks hand over {tuple(states.shape)}, not one hidden state for each token")
    return states.masked_fill(~sequences.attention_mask.bool().unsqueeze(-1), 0.0)


def check_frozen_layers(model: PreferenceModel, sequences: Sequences) -> None:
    """Compare the base's output from kept activations with its ordinary output, on the longest sequence.

    Raises:
        ValueError: the two outputs differ, or the model cannot be run so.
    """
    assert sequences.lower_hidden_states is not None
    row = int(sequences.attention_mask.sum(dim=1).argmax())
    tokens = sequences.attention_mask[row].bool()
    inputs, positions, states = (
        part[row : row + 1, tokens]
        for part in (sequences.input_ids, sequences.position_ids, sequences.lower_hidden_states)
    )
    positions = positions + padding_traits(model).position_offset
    with model.disabled(), evaluation_mode(model), torch.no_grad():
        expected = model(input_ids=inputs, position_ids=positions, use_cache=False).logits
        try:
            with skip_lower_layers(model, states):
                logits = model(input_ids=inputs, position_ids=positions, use_cache=False).logits
        except Exception as error:
            _refuse(model, f"its upper blocks need more of the lower ones ({type(error).__name__}: {error})")
    difference = (expected - logits).abs().max().item()
    # Padding and another order of sums bring some rounding.
    allowed = 1e3 * torch.finfo(computed_dtype(expected)).eps * max(1.0, expected.abs().max().item())
    if not difference <= allowed:
        _refuse(
            model,
            f"it gives other logits from kept activations (largest difference {difference:g}, allowed {allowed:g})",
        )


def _refuse(model: PreferenceModel, reason: str) -> NoReturn:
    raise ValueError(
        f"the lower layers of {type(model.base_model).__name__} cannot be computed apart: {reason}. Leave "
        "frozen_layers off."
    )


def block_stack(model: PreferenceModel) -> nn.ModuleList:
    """The stack of blocks that the adapters are in.

    Raises:
        ValueError: adapters that are not all in one list of blocks.
    """
    paths = {_path_of_blocks(name) for name in model.adapters}
    stack = model.base_model.get_submodule(paths.pop())
    if paths or not isinstance(stack, nn.ModuleList):
        _refuse(model, "its adapters are not all in one list of blocks")
    return stack


def _path_of_blocks(name: str) -> str:
    """The part of a layer's name before the first number."""
    parts = name.split(".")
    return ".".join(parts[: next(place for place, part in enumerate(parts) if part.isdigit())])


def _lower_blocks(model: PreferenceModel) -> list[nn.Module]:
    start = first_adapted_block(model)
    lower = list(block_stack(model))[:start]
    if any(block not in _output_lengths for block in lower):
        _learn_outputs(model, lower)
    return lower


def _learn_outputs(model: PreferenceModel, blocks: list[nn.Module]) -> None:
    """See what the blocks return, in a forward of one token."""

    def learn(block: nn.Module, _: Any, output: Any) -> None:
        _output_lengths[block] = len(output) if isinstance(output, tuple) else 0

    handles = [block.register_forward_hook(learn) for block in blocks]
    try:
        with model.disabled(), evaluation_mode(model), torch.no_grad():
            model(input_ids=torch.ones(1, 1, dtype=torch.int64, device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    if any(block not in _output_lengths for block in blocks):
        _refuse(model, "it does not call all blocks below the first adapted one")


class _Caught(Exception):
    """Ends a forward where nothing above is needed."""


def _caught_input(model: PreferenceModel, block: nn.Module, **inputs: Any) -> Tensor:
    """The hidden states that a block is called with."""
    states: list[Any] = []

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append(_hidden_states(args, kwargs))
        raise _Caught

    handle = block.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        model(**inputs)
    except _Caught:
        pass
    finally:
        handle.remove()
    if not states or not isinstance(states[0], Tensor):
        _refuse(model, "its blocks are not called with hidden states")
    return cast(Tensor, states[0])


def _hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("hidden_states")


def _handed_on(block: nn.Module, states: Tensor | None) -> Callable[..., Any]:
    """A forward by which a block returns these hidden states, or those that it is given."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = _hidden_states(args, kwargs) if states is None else states
        length = _output_lengths[block]
        return (output, *[None] * (length - 1)) if length else output

    return forward
