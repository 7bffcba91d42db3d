"""Evaluation mode is left as it was found, part by part, also after an error."""

import pytest
from torch import nn

from mopref.evaluation_mode import evaluation_mode


def test_each_part_comes_back_in_its_own_mode():
    module = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2))
    module[1].eval()  # frozen statistics, as users set them
    with evaluation_mode(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, False]
    with pytest.raises(RuntimeError), evaluation_mode(module):
        raise RuntimeError
    assert [part.training for part in module.modules()] == [True, True, False]
