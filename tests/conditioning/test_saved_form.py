"""What of a base is saved: parameters and kept buffers, each once, by their names in the plain one."""

import torch
from saved_conditionings import NAMES, Network, base
from torch import nn

from mopref import FiLMModel
from mopref.conditioning.saved_form import SavedContent, base_tensors, take_on


def test_buffers_that_are_not_kept_are_left_out():
    network = Network(0)
    assert base_tensors(network).keys() == network.state_dict().keys()
    assert "scratch" not in base_tensors(network)


def test_what_is_shared_is_there_once():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight = network[0].weight
    assert [*base_tensors(network)] == ["0.weight", "0.bias", "1.bias"]


def test_names_are_the_plain_ones_and_what_is_no_part_of_the_base_is_left_out():
    plain = base(0)
    names = [*base_tensors(plain)]
    model = FiLMModel(plain, NAMES)
    assert [*base_tensors(model.base_model, model._form().tensors)] == names


def test_values_come_in_the_type_of_the_model_or_in_their_own():
    model = FiLMModel(base(0), NAMES, hidden=(), target_modules=["2"])
    form = model._form()
    assert form.tensors.keys() == {"2.conditioner.0.weight", "2.conditioner.0.bias"}
    tensors = {name: torch.full(tensor.shape, 0.5, dtype=torch.float64) for name, tensor in form.tensors.items()}
    content = SavedContent(NAMES, {}, {}, "importance", tensors, {"0.bias": torch.full((6,), 0.25)}, None)
    take_on(content, form, of_own_type=["2.conditioner.0.bias"])
    assert {name: tensor.dtype for name, tensor in form.tensors.items()} == {
        "2.conditioner.0.weight": torch.float32,
        "2.conditioner.0.bias": torch.float64,
    }
    assert all((tensor == 0.5).all() for tensor in form.tensors.values())
    assert model.base_model[0].bias.tolist() == [0.25] * 6
