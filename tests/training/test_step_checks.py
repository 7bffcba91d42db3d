"""What a step's parts return, and the first gradients: adapters that learn nothing are told, or refused if all are."""

import warnings

import pytest
import torch
from torch import nn

from mopref import Objective, ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.objectives import ZDT1
from mopref.scalarizers import Linear
from mopref.training.step_checks import check_gradients, check_losses, check_scalarized, check_total

PREFERENCES = torch.tensor([[0.25, 0.75], [0.5, 0.5]])


def test_what_is_right_passes():
    losses = torch.ones(2, 2, requires_grad=True)
    check_losses(losses, PREFERENCES, ZDT1())
    check_scalarized(losses.sum(dim=1), losses, Linear())
    check_total(losses.sum(), ZDT1())


@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 2), (2, 2, 1), ()])
def test_losses_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"ZDT1\.losses returned shape .*, not \(2, 2\): one row for each preference"):
        check_losses(torch.ones(shape), PREFERENCES, ZDT1())


@pytest.mark.parametrize("shape", [(), (2, 1), (2, 2), (1,), (3,)])
def test_scalarized_losses_of_another_shape(shape):
    """Their mean would be taken without a word."""
    with pytest.raises(ValueError, match=r"Linear returned shape .*, not \(2,\): one number for each preference"):
        check_scalarized(torch.ones(shape), torch.ones(2, 2), Linear())


def test_a_total_that_is_no_number():
    with pytest.raises(
        ValueError, match=r"ZDT1's losses and auxiliary loss have shape \(3,\) together: they must make"
    ):
        check_total(torch.ones(3, requires_grad=True), ZDT1())


def test_a_total_without_a_gradient():
    with pytest.raises(
        ValueError, match="ZDT1's losses and auxiliary loss have no gradient: they must make one number"
    ):
        check_total(torch.ones(()), ZDT1())


def layers(*gradients) -> dict[str, nn.Module]:
    """One layer for each gradient: a number, or ``None`` for one that no backward pass reached."""
    parts = {}
    for index, gradient in enumerate(gradients):
        part = nn.Linear(1, 1)
        if gradient is not None:
            for parameter in part.parameters():
                parameter.grad = torch.full_like(parameter, gradient)
        parts[f"layer{index}"] = part
    return parts


@pytest.mark.parametrize("parts", [layers(1.0, -2.0), {}], ids=["all learn", "none there"])
def test_nothing_is_said_where_all_learn(parts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_gradients(parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (layers(1.0, None), r"1 of 2 adapters .*\(layer1: each was never reached\)"),
        (layers(0.0, 1.0, 0.0), r"2 of 3 adapters .*\(layer0, layer2: each has a gradient of exactly 0\)"),
        (layers(1.0, *[None] * 6), r"6 of 7 adapters .*\(layer1, layer2, layer3, layer4, …: each was never"),
    ],
)
def test_those_that_do_not_are_listed(parts, message):
    with pytest.warns(UserWarning, match=message):
        assert check_gradients(parts)


def test_both_kinds_are_told():
    with pytest.warns(UserWarning, match="adapters had nothing to learn from") as records:
        check_gradients(layers(1.0, None, 0.0))
    assert len(records) == 2


def test_where_none_is_reached_it_is_an_error():
    with pytest.raises(ValueError, match=r"none of the 2 adapters \(layer0, layer1\) has a gradient, so nothing"):
        check_gradients(layers(None, None))


@pytest.mark.parametrize("parts", [layers(0.0, 0.0), layers(0.0, None)], ids=["all", "some unreached"])
def test_gradients_that_are_all_zero_leave_the_question_open(parts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not check_gradients(parts)


def test_frozen_adapters_are_not_asked():
    parts = layers(1.0, None)
    parts["layer1"].requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_gradients(parts)


class TwoLayers(nn.Module):
    """Uses its first layer; the second one only where asked."""

    def __init__(self, used: tuple[str, ...]) -> None:
        super().__init__()
        self.first, self.second, self.used = nn.Linear(2, 2), nn.Linear(2, 2), used

    def forward(self, x):
        for name in self.used:
            x = getattr(self, name)(x)
        return x


class Squares(Objective):
    names = ("a", "b")

    def __init__(self, detached: bool = False, flat_steps: int = 0) -> None:
        self.detached, self.flat_steps, self.calls = detached, flat_steps, 0

    def losses(self, model, batch, preferences):
        self.calls += 1
        output = model(torch.ones(len(preferences), 2), preferences=preferences)
        factor = 0.0 if self.calls <= self.flat_steps else 1.0
        if self.detached:
            with model.disabled():
                output = model(torch.ones(len(preferences), 2)) + 0.0 * sum(p.sum() for p in model.extra.parameters())
        return factor * (output - 1).square()


def trainer_of(used=("first", "second"), steps=2, **options) -> ParetoTrainer:
    model = PreferenceModel(TwoLayers(used), SVDLoRAConfig(objectives=("a", "b")))
    model.extra = nn.Linear(1, 1)
    config = TrainerConfig(steps=steps, preferences_per_step=2, progress=False, cpu=True)
    return ParetoTrainer(model, Squares(**options), Linear(), config=config)


@pytest.mark.parametrize("flat_steps", [0, 2])
def test_the_trainer_says_it_once_when_it_is_known(flat_steps):
    trainer = trainer_of(used=("first",), steps=6, flat_steps=flat_steps)
    with pytest.warns(UserWarning, match=r"1 of 2 adapters .*second: each was never reached") as records:
        trainer.train()
    assert len(records) == 1


def test_the_trainer_steps_nothing_where_no_adapter_has_a_gradient():
    trainer = trainer_of(detached=True)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    with pytest.raises(ValueError, match=r"none of the 2 adapters .* has a gradient"):
        trainer.train()
    assert trainer.step == 0
    assert all(torch.equal(p, q) for p, q in zip(trainer.model.parameters(), before, strict=True))


@pytest.mark.parametrize("losses", [None, [1.0, 2.0], 3.0])
def test_losses_that_are_no_tensor_are_told(losses):
    with pytest.raises(TypeError, match=rf"ZDT1\.losses returned a {type(losses).__name__}: it must return a tensor"):
        check_losses(losses, torch.ones(1, 2), ZDT1())
    with pytest.raises(TypeError, match=rf"Linear returned a {type(losses).__name__}: it must return a tensor"):
        check_scalarized(losses, torch.ones(1, 2), Linear())


@pytest.mark.parametrize("kind", [{"device": "meta"}, {"dtype": torch.complex64}])
def test_losses_without_real_numbers(kind):
    """Whether a loss on the meta device is finite cannot be asked."""
    spoilt = torch.ones(2, 2, **kind)
    with pytest.raises(ValueError, match=r"what ZDT1\.losses returned is .*: (give|real numbers)"):
        check_losses(spoilt, PREFERENCES, ZDT1())
    with pytest.raises(ValueError, match="what Linear returned is"):
        check_scalarized(spoilt[0], torch.ones(2, 2), Linear())
