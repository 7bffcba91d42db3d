"""What the output head sees while generating: laid out so that its weight is read once for all rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["contiguous_head_input"]


@contextmanager
def contiguous_head_input(model: nn.Module) -> Iterator[None]:
    """Within this block the output head's input is contiguous.

    Of a prompt the head is shown the last token of each row, a view with gaps. PyTorch multiplies such a view with a
    frozen weight row by row, and reads the weight for each: at 32 rows that was more than a tenth of a prompt's time.

    Args:
        model: a model of transformers; another one is left as it is.
    """
    find_head = getattr(model, "get_output_embeddings", None)
    head = None if find_head is None else find_head()
    if not isinstance(head, nn.Module):
        yield
        return
    handle = head.register_forward_pre_hook(_contiguous)
    try:
        yield
    finally:
        handle.remove()


def _contiguous(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.contiguous() if isinstance(value, Tensor) else value for value in arguments)
