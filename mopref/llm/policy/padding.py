"""Whether a language model can be shown rows that are padded on the left, and how it counts their positions.

Prompts of one batch are padded on the left. A model that looks at padding all the same, or counts positions from
another number than 0, would give other log-probabilities without a word: it is tried once, on a few tokens. Rows of a
model that bears no padding on the left are run in groups that need none.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mopref.conditioning.preference_model import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.policy.model_kind import checked_logits, refuse_seen_answers
from mopref.mixed_precision import computed_dtype

__all__ = ["PaddingTraits", "equal_groups", "padding_traits"]


class PaddingTraits(NamedTuple):
    """How a language model takes a row of tokens.

    Attributes:
        position_offset: the first token's position: 0, or one behind the padding index for RoBERTa's kind.
        left: whether padding on the left leaves its output as it is.
    """

    position_offset: int
    left: bool


# What rounding may change in half precision, as a share of the largest logit: in rows that are padded, where it is all
# that can be told from another row, and in rows of one shape, which are computed alike.
_IN_HALF_PRECISION, _OF_ONE_SHAPE_IN_HALF_PRECISION = 0.5, 0.02

_traits: WeakKeyDictionary[nn.Module, PaddingTraits] = WeakKeyDictionary()
_Key = TypeVar("_Key", bound=Hashable)


def equal_groups(keys: Sequence[_Key]) -> list[list[int]]:
    """The places of equal keys together, in the order of each key's first place.

    Example:
        >>> equal_groups([3, 5, 3])
        [[0, 2], [1]]
    """
    groups: dict[_Key, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def padding_traits(model: PreferenceModel) -> PaddingTraits:
    """How this model takes a row of tokens; tried at the first call, with its adapters disabled.

    Raises:
        ValueError: a model whose output for a row changes with padding on the right, too, or that is no causal language
            model by its outputs.
    """
    if model not in _traits:
        _traits[model] = _try_padding(model)
    return _traits[model]


def _try_padding(model: PreferenceModel) -> PaddingTraits:
    config = getattr(model.base_model, "config", None)
    if config is None:
        # No model of transformers: its author knows.
        return PaddingTraits(0, True)
    table = next((part for name, part in model.named_modules() if name.endswith("position_embeddings")), None)
    padding_index = getattr(table, "padding_idx", None)
    offsets = [0] if padding_index is None else [0, padding_index + 1]
    rows = int(config.get_text_config().vocab_size)
    with model.disabled(), evaluation_mode(model), torch.no_grad():
        ids = ((rows // 2 + torch.arange(5, device=model.device)) % rows).view(1, -1)
        expected = checked_logits(model.base_model, model(input_ids=ids, use_cache=False), ids)
        noise = 3 * _noise(model, ids, expected)
        _check_direction(model, ids, expected, noise)
        allowed = _share(expected, _IN_HALF_PRECISION) + noise
        for left in (True, False):
            # Of two offsets within rounding the nearer one is right.
            differences = [(_difference(_padded_logits(model, ids, o, left), expected), o) for o in offsets]
            difference, offset = min(differences)
            if difference <= allowed:
                return PaddingTraits(offset, left)
    raise ValueError(
        f"{type(model.base_model).__name__} gives other logits for a row that is padded, on either side (more than "
        f"{allowed:g} off), so that rows of one batch would disturb each other: it cannot be trained or evaluated on "
        "padded batches."
    )


def _check_direction(model: PreferenceModel, ids: Tensor, expected: Tensor, noise: float) -> None:
    """Refuse a model whose predictions at the first two tokens change with the others."""
    kept, vocabulary = ids[:, :2], expected.shape[-1]
    others = torch.cat([kept, (ids[:, 2:] + vocabulary // 3) % vocabulary], dim=1)
    changed = model(input_ids=others, use_cache=False).logits
    allowed = _share(expected, _OF_ONE_SHAPE_IN_HALF_PRECISION) + noise
    refuse_seen_answers(model.base_model, _difference(changed[:, :2], expected[:, :2]), allowed)


def _share(expected: Tensor, in_half_precision: float) -> float:
    """What rounding may change in logits."""
    share = 1e-3 if torch.finfo(computed_dtype(expected)).eps < 1e-5 else in_half_precision
    return share * max(expected.abs().max().item(), 1e-6)


def _noise(model: PreferenceModel, ids: Tensor, expected: Tensor) -> float:
    """What another row in the batch, without any padding, changes: quantised activations are rounded by it."""
    return _difference(model(input_ids=torch.cat([ids, ids.flip(1)]), use_cache=False).logits[:1], expected)


def _difference(logits: Tensor, expected: Tensor) -> float:
    return (logits - expected).abs().max().item()


def _padded_logits(model: PreferenceModel, ids: Tensor, offset: int, left: bool) -> Tensor:
    """The logits of a row's tokens, of the row with padding on one side."""
    tokens, padding = ids.shape[1], ids.new_zeros(1, 3)
    positions = torch.arange(tokens, device=ids.device).view(1, -1)

    def padded(row: Tensor) -> Tensor:
        return torch.cat([padding, row] if left else [row, padding], dim=1)

    inputs: dict[str, Any] = {
        "input_ids": padded(ids),
        "attention_mask": padded(torch.ones_like(ids)),
        "position_ids": padded(positions) + offset,
        "use_cache": False,
    }
    try:
        logits: Tensor = model(**inputs).logits
    except Exception as error:
        raise ValueError(
            f"{type(model.base_model).__name__} cannot be run on padded rows with their positions "
            f"({type(error).__name__}: {error}): it cannot be trained or evaluated in batches."
        ) from error
    return logits[:, -tokens:] if left else logits[:, :tokens]
