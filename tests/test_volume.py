"""The volume below checked points: exact or not by m and by how many points count, and what adds nothing."""

import moocore
import numpy as np
import pytest

from mopref import _volume
from mopref._volume import volume_below


@pytest.mark.parametrize("m", [1, 2, 4, 5, 8])
def test_no_points_and_none_below_have_no_volume(m):
    assert volume_below(np.zeros((0, m)), np.ones(m)) == (0.0, True)
    assert volume_below(np.ones((3, m)), np.ones(m)) == (0.0, True)
    assert volume_below(np.full((3, m), 2.0), np.ones(m)) == (0.0, True)


@pytest.mark.parametrize("m", [5, 8])
def test_only_points_that_count_decide_whether_it_is_exact(m, monkeypatch):
    monkeypatch.setattr(_volume, "EXACT_LIMITS", {5: 2, 8: 2})
    monkeypatch.setattr(_volume, "_APPROXIMATION_SAMPLES", 64)
    corners = np.full((3, m), 0.9)
    corners[range(3), range(3)] = 0.1
    beyond, dominated = np.full((1, m), 1.5), np.full((1, m), 0.95)
    value, is_exact = volume_below(np.concatenate([corners[:2], beyond, dominated]), np.ones(m))
    assert is_exact
    assert value == pytest.approx(moocore.hypervolume(corners[:2], ref=np.ones(m)))
    assert not volume_below(corners, np.ones(m))[1]
