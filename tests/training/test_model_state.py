"""A model is, after its training, in the modes and with the forward that it came with."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from mopref.evaluation_mode import kept_modes
from mopref.training.model_state import forward_in_force, unprepared


@pytest.mark.parametrize("ending", [None, ValueError, KeyboardInterrupt])
def test_each_part_gets_its_own_mode_back(ending):
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    model.train()
    model[2].eval()
    before = [part.training for part in model.modules()]

    def work():
        with kept_modes(model):
            model.train()
            if ending is not None:
                raise ending

    if ending is None:
        work()
    else:
        with pytest.raises(ending):
            work()
    assert [part.training for part in model.modules()] == before


@pytest.mark.parametrize("has_own", [False, True])
def test_a_forward_is_in_force_within_the_block_only(has_own):
    model = nn.Identity()
    if has_own:
        model.forward = lambda x: x + 10
    before = dict(vars(model))
    x = torch.zeros(1)
    expected = model(x)
    with forward_in_force(model, lambda x: x + 1):
        assert model(x) == 1
    assert model(x) == expected
    with pytest.raises(KeyError), forward_in_force(model, lambda x: x + 1):
        raise KeyError
    assert model(x) == expected
    assert vars(model) == before


def prepared(model: nn.Module) -> nn.Module:
    """The model with a forward in mixed precision, as accelerate prepares it."""
    accelerator = Accelerator(cpu=True)
    accelerator.native_amp = True
    return accelerator.prepare_model(model)


def test_what_an_accelerator_puts_into_a_model_does_not_stay():
    model = nn.Linear(2, 2)
    before = dict(vars(model))
    with unprepared(model):
        prepared(model)
        assert "forward" in vars(model)
    assert vars(model) == before
    # Nor after an error.
    with pytest.raises(KeyError), unprepared(prepared(model)):
        raise KeyError
    assert "forward" in vars(model)


def test_a_model_that_another_accelerator_prepared_is_prepared_anew():
    model = prepared(nn.Linear(2, 2))
    before = dict(vars(model))
    with unprepared(model):
        assert type(model).forward is model.forward.__func__
        forward = model.forward
        assert prepared(model).forward is not forward
    assert vars(model) == before
