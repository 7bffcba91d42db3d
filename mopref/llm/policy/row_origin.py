"""Which model computed what a row keeps: a short text beside it, compared before the row is used with a model."""

import hashlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from mopref._tables import rows_to_check
from mopref.conditioning.base_check import base_check

__all__ = ["check_row_origin", "weights_digest"]


def weights_digest(base: nn.Module) -> str:
    """Twelve letters that are other ones for other weights; the same on every device and beside any adapters.

    They come from a few numbers of each weight (see ``base_check``).
    """
    return hashlib.sha256(repr(sorted(base_check(base).items())).encode()).hexdigest()[:12]


def check_row_origin(data: Sequence[Any], what: str, origin: str) -> None:
    """Refuse rows with numbers that another model computed.

    A row says under ``<what>_model`` which one it was. One that does not is taken for this model's.

    Args:
        data: rows.
        what: what was computed, such as "reference".
        origin: what this model's rows say.

    Raises:
        ValueError: the first such row, with both texts.
    """
    column = f"{what}_model"
    for index, row in rows_to_check(data, (column,), lambda chunk: chunk.is_everywhere(column, origin)):
        own = row.get(column, origin)
        if own != origin:
            raise ValueError(
                f"row {index} has a {what} that was computed with {own}, but this model's would be of {origin}: "
                "precompute the rows with the model that is used, or leave that to the training."
            )
