"""An adapter's scale without a dimension, as it was, is taken with its averages; all else is left to the checks."""

import pytest
import torch
from torch import nn

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.training.older_shapes import with_todays_shapes
from mopref.training.run_state import trained_state


@pytest.fixture
def parts():
    model = PreferenceModel(nn.Sequential(nn.Linear(4, 3)), SVDLoRAConfig(("a", "b"), rank=2))
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    nn.init.normal_(model.base_model[0].U)
    model(torch.ones(2, 4), preferences=[0.3, 0.7]).square().sum().backward()
    optimizer.step()
    return model, optimizer


def older(model, optimizer):
    """The state of today with scales as they were."""
    trained = {name: value.detach().clone() for name, value in trained_state(model).items()}
    moments = optimizer.state_dict()
    entries = {
        index: {key: value.view(()) if value.shape == (1,) else value.clone() for key, value in entry.items()}
        for index, entry in moments["state"].items()
    }
    trained = {name: value.view(()) if value.shape == (1,) else value for name, value in trained.items()}
    return {"model": trained, "optimizer": {**moments, "state": entries}, "step": 1}


def test_numbers_get_a_dimension_and_nothing_else_changes(parts):
    model, optimizer = parts
    state = older(model, optimizer)
    found = with_todays_shapes(state, model, optimizer)
    own = trained_state(model)
    assert any(value.ndim == 0 for value in state["model"].values())
    for name, value in found["model"].items():
        assert value.shape == own[name].shape
        assert value.flatten().equal(state["model"][name].flatten())
    for index, entry in optimizer.state_dict()["state"].items():
        for key, value in entry.items():
            assert found["optimizer"]["state"][index][key].shape == value.shape
            assert found["optimizer"]["state"][index][key].equal(value)
    assert with_todays_shapes(found, model, optimizer)["step"] == 1


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"model": 3, "optimizer": None},
        {
            "model": {"other": torch.tensor(1.0)},
            "optimizer": {"state": {7: {"exp_avg": torch.tensor(1.0)}, "x": 1, -1: {}}},
        },
    ],
    ids=["empty", "of other kinds", "of another model"],
)
def test_what_is_no_such_state_is_left_as_it_is(state, parts):
    assert with_todays_shapes(state, *parts) == state
