"""What several tests of this folder assert."""

import numpy as np

from mopref.front import Front


def assert_same(a: Front, b: Front) -> None:
    """Equal in every bit and type."""
    assert a.names == b.names
    assert a.maximize == b.maximize
    assert type(a.maximize) is type(b.maximize)
    assert a.metadata == b.metadata
    assert a.convention == b.convention
    pairs = [(a.values, b.values), (a.preferences, b.preferences)]
    assert list(a.extra) == list(b.extra)
    for x, y in pairs + [(a.extra[name], b.extra[name]) for name in a.extra]:
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes() if x.dtype.kind != "f" else np.array_equal(x, y, equal_nan=True)
