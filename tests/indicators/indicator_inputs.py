"""Point sets that several tests of this folder use."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


@st.composite
def point_sets(draw: Any, objectives: int | None = None) -> np.ndarray:
    """One to twelve points of one to four objectives, or of as many as are asked for."""
    m = objectives or draw(st.integers(1, 4))
    n = draw(st.integers(1, 12))
    # Sixteenths are exact in binary, and coarse enough that copies and ties do occur.
    return draw(arrays(np.int64, (n, m), elements=st.integers(-16, 16))) / 16.0


def sphere(n: int, m: int, seed: int = 0) -> np.ndarray:
    """Random points on the unit sphere where no coordinate is negative."""
    points = np.abs(np.random.default_rng(seed).normal(size=(n, m)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)
