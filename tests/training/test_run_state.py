"""What a resumed run must have in common with its checkpoint, and which parameters are its own."""

import warnings

import pytest
import torch
from torch import nn

from mopref import TrainerConfig
from mopref.training.run_state import check_settings, fixed_settings, load_trained_state, tell_other_rate, trained_state


def make_model(width: int = 3) -> nn.Module:
    """A frozen layer, a trained one, and buffers."""
    model = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
    model[0].requires_grad_(False)
    return model


def test_the_same_settings_pass():
    check_settings({"seed": 3, "steps": 5}, {"seed": 3, "steps": 5, "rows": 9}, "folder")


@pytest.mark.parametrize("stored", [{"seed": 4, "batch_size": 2}, {"batch_size": 2}])
def test_the_first_setting_that_differs_is_named(stored):
    # Where it is not stored, the default was what its version did.
    message = f"folder was trained with seed = {stored.get('seed', 0)}, not 3: resume with the same setting"
    with pytest.raises(ValueError, match=message):
        check_settings({"batch_size": 2, "seed": 3}, stored, "folder")


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize(("steps", "longer", "done"), [(20, 40, 20), (20, 40, 10), (100, 90, 80)])
def test_another_learning_rate_is_told_with_both(schedule, steps, longer, done):
    config = TrainerConfig(steps=steps, lr_schedule=schedule, learning_rate=0.1)
    rate = 0.1 * config.lr_factor(done - 1)
    own = TrainerConfig(steps=longer, lr_schedule=schedule, learning_rate=0.1)
    message = rf"folder had the learning rate {rate:.3g} .*steps = {longer} has {0.1 * own.lr_factor(done - 1):.3g}"
    with pytest.warns(UserWarning, match=message):
        tell_other_rate(own, done, rate, "folder")


@pytest.mark.parametrize(
    ("options", "longer", "done"),
    [({}, 20, 20), ({}, 20, 3), ({"lr_schedule": "constant", "warmup_ratio": 0.0}, 40, 20), ({}, 40, 0)],
    ids=["the same at its end", "the same within", "constant", "nothing done"],
)
def test_the_same_learning_rate_needs_no_word(options, longer, done):
    rate = 1e-3 * TrainerConfig(steps=20, **options).lr_factor(max(0, done - 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_other_rate(TrainerConfig(steps=longer, **options), done, rate, "folder")


def test_trained_state_leaves_frozen_parameters_out():
    names = set(trained_state(make_model()))
    assert names == {
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
        "2.weight",
        "2.bias",
    }


def test_a_parameter_with_two_names_is_frozen_under_both():
    model = make_model()
    model.again = model[0]
    assert not any(name.startswith(("0.", "again.")) for name in trained_state(model))


def test_load_copies_into_the_models_own_tensors():
    torch.manual_seed(0)
    model, other = make_model(), make_model()
    other.train()(torch.randn(8, 2))
    parameter, frozen = model[2].weight, model[0].weight.clone()
    load_trained_state(model, {name: value.detach().clone() for name, value in trained_state(other).items()}, "folder")
    assert model[2].weight is parameter
    for name, value in trained_state(other).items():
        assert torch.equal(trained_state(model)[name], value)
    assert torch.equal(model[0].weight, frozen)
    assert model[2].weight.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("2.weight"), r"'2.weight' has shape None there and \(1, 3\) here \(1 such entries\)"),
        (lambda state: state.update(extra=torch.zeros(2)), r"'extra' has shape \(2,\) there and None here"),
        (lambda state: state.update({"2.bias": torch.zeros(4)}), r"'2.bias' has shape \(4,\) there and \(1,\) here"),
    ],
    ids=["missing", "unexpected", "other shape"],
)
def test_the_state_of_another_model_is_refused_and_nothing_is_copied(change, message):
    model = make_model()
    before = {name: value.detach().clone() for name, value in trained_state(model).items()}
    stored = {name: value + 1 for name, value in before.items()}
    change(stored)
    with pytest.raises(ValueError, match=f"folder belongs to another model: {message}"):
        load_trained_state(model, stored, "folder")
    for name, value in trained_state(model).items():
        assert torch.equal(value, before[name])


def test_accumulated_gradients_of_before_are_another_run():
    """Each forward drew preferences of its own; with one forward a step that was the same."""
    own = {**fixed_settings(TrainerConfig(gradient_accumulation_steps=2)), "preferences_drawn_for": "a step"}
    older = {name: value for name, value in own.items() if name != "preferences_drawn_for"}
    with pytest.raises(ValueError, match="trained with preferences_drawn_for = each forward, not a step"):
        check_settings(own, older, "folder")
    one = {"gradient_accumulation_steps": 1}
    check_settings({**own, **one}, {**older, **one}, "folder")
