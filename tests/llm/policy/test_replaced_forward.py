"""A module's forward is another one for a while, with its hooks, and is put back whatever happens."""

import pytest
import torch
from torch import nn

from mopref.llm.policy.replaced_forward import replaced_forward


@pytest.mark.parametrize("has_its_own", [False, True], ids=["of its class", "of its own"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_one_before_is_put_back(has_its_own, fails):
    layer, calls = nn.Linear(2, 3), []
    layer.register_forward_hook(lambda *_: calls.append(1))
    if has_its_own:
        layer.forward = lambda x: x + 1
    before = dict(vars(layer))

    def other(x):
        if fails:
            raise ZeroDivisionError
        return 2 * x

    try:
        with replaced_forward(layer, other):
            assert layer(torch.ones(2)).tolist() == [2.0, 2.0]
    except ZeroDivisionError:
        assert fails
    else:
        assert not fails
        assert calls == [1]
    assert vars(layer).keys() == before.keys()
    assert vars(layer).get("forward") is before.get("forward")
