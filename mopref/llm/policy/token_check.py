"""Whether the rows of a data set are rows of a model's own tokens, asked before the work.

A token without an embedding is an error deep in the model, on a GPU one that ends the process; a number that is none,
such as 1.9, would be taken for another token without a word.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mopref._tables import Chunk, matrix_of_table, rows_to_check
from mopref.data_rows import check_columns, checked_rows, is_whole_number

__all__ = ["Vocabulary", "check_stop_tokens", "stated_size", "token_counts"]

_IDS = "give a list of whole numbers ≥ 0, as the model's tokenizer makes them"


class Vocabulary(NamedTuple):
    """How many tokens a language model knows.

    Attributes:
        embeddings: it can be shown the tokens 0 … embeddings − 1; ``None`` where that is not known.
        predictions: it can predict the tokens 0 … predictions − 1; ``None`` where that is not known.
    """

    embeddings: int | None
    predictions: int | None

    @classmethod
    def of(cls, base: nn.Module) -> "Vocabulary":
        """That of a model: of its embeddings and its output head, or else of its configuration."""
        size = stated_size(base)
        embeddings = _size(base, "get_input_embeddings", "num_embeddings") or size
        return cls(embeddings, _size(base, "get_output_embeddings", "out_features") or size or embeddings)


def stated_size(base: nn.Module) -> int | None:
    """The size of a model's vocabulary by its configuration; ``None`` for one without."""
    config: Any = getattr(base, "config", None)
    size = getattr(config.get_text_config(), "vocab_size", None) if hasattr(config, "get_text_config") else None
    return size if isinstance(size, int) else None


def _size(base: nn.Module, part: str, size: str) -> int | None:
    """A size of one of the parts that models of transformers name; ``None`` where they do not."""
    try:
        number = getattr(getattr(base, part)(), size, None)
    except (AttributeError, NotImplementedError):
        return None
    return number if isinstance(number, int) else None


def token_counts(
    base: nn.Module, data: Sequence[Any], columns: Sequence[str], what: str = "row"
) -> list[tuple[int, ...]]:
    """The number of tokens in each of these columns of each row, all of which the model has.

    Args:
        base: a language model.
        data: rows.
        columns: those of token ids; the model is to predict the tokens of all that are not the prompt's.
        what: the rows' name, for the message.

    Raises:
        ValueError: the first row with something else than a list of whole numbers, without a token, or with one that
            the model lacks; or one that is no dict, or lacks a column.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    check_columns(checked_rows(data, "data"), columns, _IDS)
    vocabulary = Vocabulary.of(base)
    least = min((number for number in vocabulary if number is not None), default=None)
    limits = {name: vocabulary.embeddings if name == "prompt_ids" else least for name in columns}
    of_table = matrix_of_table(data, columns, lambda chunk: _right_counts(chunk, limits))
    if of_table is not None:
        return [tuple(row) for row in of_table.tolist()]
    counts = []
    for number, row in rows_to_check(data, columns):
        for name, limit in limits.items():
            problem = _problem(row[name], name, limit)
            if problem is not None:
                reason = problem.format(model=type(base).__name__)
                raise ValueError(f"{what} {number} has {reason}.")
        counts.append(tuple(len(row[name]) for name in columns))
    return counts


def _right_counts(chunk: Chunk, limits: Mapping[str, int | None]) -> NDArray[np.int64] | None:
    """The number of tokens in these columns of a table's rows, ``(rows, columns)``; ``None`` where one may be wrong."""
    counts = []
    for name, limit in limits.items():
        column = chunk.lists(name)
        if column is None or column.values.dtype.kind not in "iu" or column.lengths.min() == 0:
            return None
        if column.values.min() < 0 or (limit is not None and column.values.max() >= limit):
            return None
        counts.append(column.lengths)
    return np.stack(counts, axis=1)


def _problem(ids: Any, name: str, limit: int | None) -> str | None:
    """What is wrong with the ids of one row, for a message; ``None`` for nothing."""
    if isinstance(ids, Tensor | np.ndarray):
        ids = ids.tolist()
    if isinstance(ids, str | bytes | Mapping) or not hasattr(ids, "__len__"):
        return f"a {type(ids).__name__} as {name}: {_IDS}"
    if len(ids) == 0:
        return f"no token in {name}: the log-probability of a response needs one of the prompt and one of its own"
    # The usual rows are told at the speed of C.
    if set(map(type, ids)) != {int}:
        others = [token for token in ids if not is_whole_number(token)]
        if others:
            return f"a {type(others[0]).__name__} in {name}: {_IDS}"
    lowest, highest = int(min(ids)), int(max(ids))
    if lowest >= 0 and (limit is None or highest < limit):
        return None
    if limit is None:
        return f"the token {lowest} in {name}: {_IDS}"
    return (
        f"the token {lowest if lowest < 0 else highest} in {name}, but {{model}} "
        f"{'has embeddings for' if name == 'prompt_ids' else 'predicts'} {limit} tokens, 0 … {limit - 1}: "
        "tokenise with the model's own tokenizer or, where tokens were added to it, call "
        "model.resize_token_embeddings(len(tokenizer)) before the model is wrapped"
    )


def check_stop_tokens(base: nn.Module, stop_token_ids: Sequence[int]) -> None:
    """Refuse stop tokens none of which the model can predict, so that no response would end by itself.

    Raises:
        ValueError: it says the stop tokens, and how many tokens the model has.
    """
    predictions = Vocabulary.of(base).predictions
    if predictions is not None and stop_token_ids and min(stop_token_ids) >= predictions:
        raise ValueError(
            f"stop_token_ids is {tuple(stop_token_ids)}, but {type(base).__name__} predicts the tokens 0 … "
            f"{predictions - 1} only, so that no response would end: use the model's own tokenizer or, where tokens "
            "were added to it, call model.resize_token_embeddings(len(tokenizer)) before the model is wrapped."
        )
