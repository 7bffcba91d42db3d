"""Trainings on rows of numbers in which one thing goes wrong, wherever a certain row is."""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mopref import Objective, ParetoTrainer, TrainerCallback, TrainerConfig
from mopref.objective import Losses
from mopref.scalarizers import Tchebycheff

BAD_ROW = 5
BAD = 1000.0 + BAD_ROW
# Row numbers in the thousands are the bad ones.
ROWS = [BAD if index == BAD_ROW else float(index) for index in range(12)]


class Network(nn.Module):
    """λ -> x."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, preferences: Tensor) -> Tensor:
        """``(G, 2)`` to ``(G, 3)``."""
        return self.second(torch.tanh(self.first(preferences)))


class Times(torch.autograd.Function):
    """The value itself, whose gradient is multiplied."""

    @staticmethod
    def forward(context, value, factor):
        context.factor = factor
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * context.factor, None


class Faulty(Objective):
    """‖x ± .2‖²; where the bad row is in a group, ``fault`` happens to that group's second loss, or beside it."""

    names = ("left", "right")
    needs_data = True

    def __init__(self, fault: str = "", value: float = math.nan) -> None:
        self.fault, self.value = fault, value

    def losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """``(G, 2)``."""
        x = model(preferences)
        left, right = (x - 0.2).square().mean(dim=1), (x + 0.2).square().mean(dim=1)
        bad = (batch.view(len(preferences), -1) >= 1000).any(dim=1)
        if self.fault == "loss":
            right = torch.where(bad, self.value, right)
        if self.fault == "gradient":
            right = Times.apply(right, torch.where(bad, self.value, 1.0))
        if self.fault == "raised" and bad.any():
            raise FloatingPointError("a table has a hole.")
        return torch.stack([left, right], dim=1)

    def training_losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Losses:
        """With an auxiliary loss where it is what fails."""
        losses, is_bad = self.losses(model, batch, preferences), bool((batch >= 1000).any())
        mean = losses.mean()
        auxiliary = None
        if self.fault == "auxiliary":
            auxiliary = mean * (self.value if is_bad else 0.1)
        if self.fault == "auxiliary gradient":
            auxiliary = Times.apply(mean, self.value) if is_bad else mean
        return Losses(losses, auxiliary, {"largest row": batch.max()})


class Watch(TrainerCallback):
    """Keeps the trainer's state as it was after the last whole step."""

    state: dict[str, Any]

    def on_train_begin(self, trainer):
        self.on_step_end(trainer)

    def on_step_end(self, trainer):
        self.state = deepcopy(trainer._state())


def faulty_trainer(objective: Objective, scalarizer: Any = None, **settings: Any) -> ParetoTrainer:
    """Six groups' rows an epoch: the bad row comes in one of the first steps."""
    settings = {"steps": 6, "batch_size": 4, "preferences_per_step": 2, "log_every": 4, "progress": False} | settings
    scalarizer = Tchebycheff() if scalarizer is None else scalarizer
    config = TrainerConfig(cpu=True, **settings)
    return ParetoTrainer(Network(), objective, scalarizer, train_data=ROWS, config=config, callbacks=[Watch()])


def assert_same(first: Any, second: Any) -> None:
    """Of two states, bit for bit."""
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second
