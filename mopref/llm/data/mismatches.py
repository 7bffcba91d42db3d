"""Mismatched responses: each prompt beside an answer to another one, as KTO's reference point needs them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mopref.data_rows import check_columns, checked_rows, token_tuples
from mopref.setting_types import checked_numpy_seed

__all__ = ["with_mismatches"]


def with_mismatches(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Copies of the rows, each with the response of another row, ``mismatched_response_ids``.

    Every response is given to one row, and to one of another prompt as far as there are enough. Drawn once, so that
    what the reference says of them can be computed once.

    Args:
        rows: with ``prompt_ids`` and ``response_ids``.
        seed: of the draw.

    Returns:
        New rows, in the order of ``rows``; without what was computed for other mismatches before.

    Raises:
        ValueError: fewer than two rows, or a row without token ids.
        TypeError: data whose rows cannot be counted, or had by their number.

    Example:
        >>> rows = [{"prompt_ids": [1], "response_ids": [5]}, {"prompt_ids": [2], "response_ids": [6]}]
        >>> [row["mismatched_response_ids"] for row in with_mismatches(rows)]
        [[6], [5]]
    """
    seed = checked_numpy_seed(seed)
    count = len(checked_rows(rows, "rows"))
    if count < 2:
        raise ValueError(f"there are {count} rows: a mismatch needs the response of another row, so give two at least.")
    check_columns(rows, ("prompt_ids", "response_ids"), "tokenise records first")
    # Plain integers: of tensors, as a data set may hand them out, no two are equal by their hash.
    prompts = token_tuples(rows, "prompt_ids", "tokenise records first")
    # In random order, rows of one prompt together: by the largest of these groups further on is another prompt, unless
    # one prompt has more than half of the rows.
    order = np.random.default_rng(seed).permutation(count).tolist()
    place: dict[tuple[int, ...], int] = {}
    for index in order:
        place.setdefault(prompts[index], len(place))
    order.sort(key=lambda index: place[prompts[index]])
    sizes = np.bincount([place[prompt] for prompt in prompts])
    shift = max(1, min(int(sizes.max()), count - 1))
    partners = dict(zip(order, order[shift:] + order[:shift], strict=True))
    computed = ("reference_", "hidden_states")
    return [
        {
            **{name: value for name, value in row.items() if not str(name).startswith(computed)},
            "mismatched_response_ids": rows[partners[index]]["response_ids"],
        }
        for index, row in enumerate(rows)
    ]
