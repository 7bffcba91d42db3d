"""How many tokens a language model can take: where its positions end, and where its rotary scaling changes.

A table of positions ends somewhere, and a token beyond is an error deep in the model, on a GPU one that ends the
process. Rotary positions go on without a word. Some of them are scaled by the longest row of a batch, so that a row's
log-probabilities hang on the rows beside it. All of this is known before the work.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakSet

from torch import Tensor, nn

from mopref._warning import warn
from mopref.setting_types import python_value, python_values

__all__ = ["PositionLimits", "check_lengths", "check_one_scaling", "position_limits"]

# The names that configurations have for the most tokens of a row.
_LIMITS = ("max_position_embeddings", "max_target_positions", "max_seq_len")
# The models whose users were told already.
_told: WeakSet[nn.Module] = WeakSet()


class PositionLimits(NamedTuple):
    """Numbers of tokens that matter to a language model.

    Attributes:
        tokens: the most that it has positions for, or was made for; ``None`` where nothing is known.
        ends: whether there are no positions beyond: they come from a table.
        threshold: the most tokens of a batch's rows under which rotary positions are scaled as for short ones;
            ``None`` where the scaling is the same for all.
        grows: whether beyond the threshold the scaling goes on changing with the longest row.
    """

    tokens: int | None
    ends: bool = False
    threshold: int | None = None
    grows: bool = False


def position_limits(base: nn.Module) -> PositionLimits:
    """What a model's configuration and its tables of positions say; no limit for one without a configuration."""
    config: Any = getattr(base, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        return PositionLimits(None)
    config = config.get_text_config()
    # A negative number stands for none.
    limits = {name: size for name in _LIMITS if isinstance(size := getattr(config, name, None), int) and size > 0}
    if not limits:
        return PositionLimits(None)
    name, tokens = next(iter(limits.items()))
    scalings = list(_scalings(config))
    if not scalings:
        sizes = list(_table_sizes(base, tokens))
        # Biases by distance, as MPT has them, are made for so many tokens, too.
        return PositionLimits(min([tokens, *sizes]), ends=bool(sizes) or name == "max_seq_len")
    thresholds = [
        tokens if "dynamic" in kind else int(scaling.get("original_max_position_embeddings") or tokens)
        for kind, scaling in scalings
        if "dynamic" in kind or kind == "longrope"
    ]
    return PositionLimits(
        tokens,
        threshold=min(thresholds, default=None),
        grows=any("dynamic" in kind for kind, _ in scalings),
    )


def _scalings(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The kind and the settings of each rotary scaling: one, or one for each kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    for settings in [parameters, *parameters.values()]:
        if isinstance(settings, Mapping) and "rope_type" in settings:
            yield str(settings["rope_type"]), settings


def _table_sizes(base: nn.Module, tokens: int) -> Iterator[int]:
    """The tokens that each table of positions has entries for, learned or not."""
    for name, part in base.named_modules():
        if _tells_positions(name) and isinstance(part, nn.Embedding) and part.num_embeddings >= tokens:
            # RoBERTa's kind counts from behind the index of padding.
            yield tokens if part.padding_idx is None else part.num_embeddings - part.padding_idx - 1
    for name, table in base.named_buffers():
        if _tells_positions(name) and isinstance(table, Tensor) and table.ndim > 1 and len(table) == tokens:
            yield tokens


def _tells_positions(name: str) -> bool:
    return any("pos" in part or part == "wpe" for part in name.split("."))


def check_lengths(base: nn.Module, lengths: Sequence[int], what: str = "row", new_tokens: int = 0) -> None:
    """Refuse rows with more tokens than the model has positions for.

    Args:
        base: a language model.
        lengths: the tokens of each row.
        what: the rows' name, for the message.
        new_tokens: how many more are sampled to each at most.

    Raises:
        ValueError: the longest row, with its tokens and the model's limit.

    Warns:
        UserWarning: once a model, where it has positions beyond its limit, but was not made for them.
    """
    new_tokens = python_value(new_tokens, int, "new_tokens")
    lengths = python_values(lengths, int, "lengths")
    limits = position_limits(base)
    longest = max(range(len(lengths)), key=lengths.__getitem__, default=None)
    if longest is None or limits.tokens is None or lengths[longest] + new_tokens <= limits.tokens:
        return
    tokens = _told_tokens(what, longest, lengths[longest], new_tokens)
    if limits.ends:
        raise ValueError(f"{tokens}, but {type(base).__name__} has {limits.tokens} positions: {_remedy(new_tokens)}.")
    if base not in _told:
        _told.add(base)
        warn(
            f"{tokens}, but {type(base).__name__} was made for {limits.tokens} (its max_position_embeddings): beyond, "
            f"what it says may be worth little, unless its positions were extended on purpose. Else "
            f"{_remedy(new_tokens)}.",
        )


def check_one_scaling(base: nn.Module, lengths: Sequence[int], what: str = "row", new_tokens: int = 0) -> None:
    """Refuse rows under which the model would scale its rotary positions in more than one way.

    The longest row of a batch decides, so that a row's log-probabilities would differ from batch to batch, or between
    the sampling of a response and the step that learns from it.

    Args:
        base: a language model.
        lengths: the tokens of each row.
        what: the rows' name, for the message.
        new_tokens: how many more are sampled to each at most.

    Raises:
        ValueError: the longest row, with its tokens and the threshold.
    """
    limits = position_limits(base)
    if not lengths or limits.threshold is None or max(lengths) + new_tokens <= limits.threshold:
        return
    # A sampled response has a token at least.
    if limits.grows or min(lengths) + min(new_tokens, 1) <= limits.threshold:
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        raise ValueError(
            f"{_told_tokens(what, longest, lengths[longest], new_tokens)}, but {type(base).__name__} scales its rotary "
            f"positions in another way where some row of a batch has more than {limits.threshold}, for all of its "
            f"rows, which would be taken for something learned: {_remedy(new_tokens)}, or load the model with a "
            "rope_type that is the same for all lengths."
        )


def _told_tokens(what: str, row: int, tokens: int, new_tokens: int) -> str:
    more = f", and with max_new_tokens = {new_tokens} up to {tokens + new_tokens}" if new_tokens else ""
    return f"{what} {row} has {tokens} tokens{more}"


def _remedy(new_tokens: int) -> str:
    if new_tokens:
        return "shorten the prompts or lower max_new_tokens"
    return "shorten the rows (max_prompt_length and max_response_length of the tokenisation), or leave the longest out"
