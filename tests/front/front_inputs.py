"""Fronts that several tests of this folder start from."""

from typing import Any

import numpy as np

from mopref.front import Front

NAMES = ("helpful", "harmless")


def small(**changes: Any) -> Front:
    """A front of four points, the third of them dominated, with columns of each kind; any argument may be changed."""
    arguments = {
        "preferences": [[1.0, 0.0], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]],
        "values": [[0.0, 2.0], [1.0, 1.0], [1.5, 1.5], [2.0, 0.0]],
        "names": NAMES,
        "extra": {"length": [10, 20, 30, 40], "accuracy": [0.1, None, 0.3, 1.0], "text": ["a", "b, c", 'd"', "é\nλ"]},
        "metadata": {"seed": 3, "reference_point": (3, 3), "model": {"id": "x", "rank": np.int64(8)}},
    }
    return Front(**(arguments | changes))
