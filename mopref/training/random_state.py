"""The states of all global random generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["kept_random_state", "random_state", "set_random_state"]


def random_state(devices: bool = True) -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's global generators, as a checkpoint can hold them.

    Args:
        devices: with those of the GPUs, each of which is set up by asking for it.
    """
    python_version, python_words, python_gauss = random.getstate()
    _, numpy_words, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - saved for code that uses it
    return {
        "python": [python_version, list(python_words), python_gauss],
        "numpy": [[int(word) for word in numpy_words], int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if devices and torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Continue from a state given by :func:`random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    numpy_words, position, has_gauss, numpy_gauss = state["numpy"]
    np.random.set_state(("MT19937", np.array(numpy_words, dtype=np.uint32), position, has_gauss, numpy_gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Put the generators back after this block, also after an error."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
