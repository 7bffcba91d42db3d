"""Weights in a pickle, which transformers reads on request: what is more than tensors in one is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

from mopref._checked_files import printable

__all__ = ["tensors_alone"]


@contextmanager
def tensors_alone(name: Any) -> Iterator[None]:
    """Within this block a model is loaded with ``weights_only=True``; PyTorch's own error advises to leave that out.

    Raises:
        ValueError: the weights hold more than tensors.
    """
    try:
        yield
    except UnpicklingError as error:
        raise ValueError(
            f"{printable(str(name))} has weights in a pickle that holds more than tensors, which may be code: it was "
            "not run. Load them by other means only if you trust whoever wrote them with your machine; or give a model "
            "in safetensors."
        ) from error
