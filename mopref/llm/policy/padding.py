"""Whether a language model can be shown rows that are padded on the left, and how it counts their positions.

Prompts of one batch are padded on the left. A model that looks at padding all the same, or counts positions from
another number than 0, would give other log-probabilities without a word: it is tried once, on a few tokens.
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mopref.conditioning.preference_model import PreferenceModel
from mopref.evaluation_mode import evaluation_mode

__all__ = ["position_offset", "refuse_encoder_decoder"]

_offsets: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def refuse_encoder_decoder(base_model: nn.Module) -> None:
    """Refuse a model whose decoder would see the response that it is to predict.

    Raises:
        ValueError: an encoder-decoder model.
    """
    if getattr(getattr(base_model, "config", None), "is_encoder_decoder", False):
        raise ValueError(
            f"{type(base_model).__name__} is an encoder-decoder: prompt and response would both be its encoder's "
            "input, so that no log-probability of a response is had from it. Use a causal language model."
        )


def position_offset(model: PreferenceModel) -> int:
    """What the first token's position is to this model: 0, or one behind the padding index for RoBERTa's kind.

    Raises:
        ValueError: a model whose output for a row changes when the row is padded on the left.
    """
    if model not in _offsets:
        _offsets[model] = _find_offset(model)
    return _offsets[model]


def _find_offset(model: PreferenceModel) -> int:
    table = next((part for name, part in model.named_modules() if name.endswith("position_embeddings")), None)
    padding = getattr(table, "padding_idx", None)
    offsets = [0] if padding is None else [0, padding + 1]
    config = getattr(model.base_model, "config", None)
    if config is None:
        # No model of transformers: its author knows.
        return 0
    rows = int(config.get_text_config().vocab_size)
    with evaluation_mode(model), torch.no_grad(), model.disabled():
        ids = ((rows // 2 + torch.arange(5, device=model.device)) % rows).view(1, -1)
        expected = model(input_ids=ids, use_cache=False).logits
        differences = [_difference(model, ids, offset, expected) for offset in offsets]
    size = expected.abs().max().item()
    # In half precision rounding is all that can be told from another row.
    allowed = (1e-3 if torch.finfo(expected.dtype).eps < 1e-5 else 0.5) * max(size, 1e-6)
    for offset, difference in zip(offsets, differences, strict=True):
        if difference <= allowed:
            return offset
    raise ValueError(
        f"{type(model.base_model).__name__} gives other logits for a row that is padded on the left (largest "
        f"difference {min(differences):g}, allowed {allowed:g}), so that rows of one batch would disturb each "
        "other: it cannot be trained or evaluated on padded batches."
    )


def _difference(model: PreferenceModel, ids: Tensor, offset: int, expected: Tensor) -> float:
    """How far the logits of a padded row are from those of the row alone."""
    padding = ids.new_zeros(1, 3)
    tokens = ids.shape[1]
    positions = torch.cat([padding, torch.arange(tokens, device=ids.device).view(1, -1)], dim=1) + offset
    inputs: dict[str, Any] = {
        "input_ids": torch.cat([padding, ids], dim=1),
        "attention_mask": torch.cat([padding, torch.ones_like(ids)], dim=1),
        "position_ids": positions,
        "use_cache": False,
    }
    return (model(**inputs).logits[:, -tokens:] - expected).abs().max().item()
