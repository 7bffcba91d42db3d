"""Every conditioning that is saved into a folder of its own, made small, moved as a training moves it, and called."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mopref import (
    ConcatenationModel,
    DecisionModel,
    FiLMModel,
    HypernetworkModel,
    ParetoSetModel,
    PreferenceModel,
    SVDLoRAConfig,
)

__all__ = ["CASES", "FROZEN", "NAMES", "ROWS", "WHOLE", "Case", "Network", "base", "moved", "output"]

NAMES = ("helpful", "harmless")
ROWS = torch.tensor([[0.3, 0.7], [1.0, 0.0], [0.0, 1.0]])
_BOUNDS = (-1.0, [1.0, 2.0, 10.0 / 3.0])
_ANCHOR = [0.1, -0.7, 1.0 / 3.0, 2.0]


class Network(nn.Module):
    """A network of one's own that takes preferences, with statistics that are counted and a buffer that is not kept."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layer, self.norm = nn.Linear(6, 3), nn.BatchNorm1d(3)
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor, preferences: Tensor) -> Tensor:
        """``(B, 4)`` and ``(B, 2)`` to ``(B, 3)``."""
        return self.norm(self.layer(torch.cat([x, preferences], dim=1)))


def base(seed: int, inputs: int = 4) -> nn.Module:
    """A small network."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, 3))


class Case(NamedTuple):
    """One conditioning: how it is made around what, and what it is loaded around."""

    kind: type
    around: Callable[[int], nn.Module | None]
    make: Callable[[nn.Module | None], nn.Module]

    def new(self, seed: int = 0) -> nn.Module:
        """A model around a base of that seed."""
        return self.make(self.around(seed))

    def load(self, folder, seed: int = 0) -> nn.Module:
        """The model of a folder, around a base of that seed."""
        inside = self.around(seed)
        return self.kind.load(folder) if inside is None else self.kind.load(inside, folder)


def _decision(network: nn.Module) -> DecisionModel:
    return DecisionModel(network, 3, _BOUNDS, anchor=_ANCHOR)


def _adapted(seed: int) -> nn.Module:
    return PreferenceModel(base(seed), SVDLoRAConfig(NAMES, rank=2, preference_rank=2))


def _nothing(seed: int) -> None:
    return None


CASES = {
    "pareto set": Case(ParetoSetModel, _nothing, lambda _: ParetoSetModel(2, 3, _BOUNDS, hidden=(5, 4), seed=3)),
    "film": Case(FiLMModel, base, lambda b: FiLMModel(b, NAMES, hidden=(5,), seed=3)),
    "film, frozen": Case(FiLMModel, base, lambda b: FiLMModel(b, NAMES, (5,), ["2"], train_base=False)),
    "hypernetwork": Case(HypernetworkModel, base, lambda b: HypernetworkModel(b, NAMES, (5,), 3, seed=3)),
    "hypernetwork, frozen": Case(
        HypernetworkModel, base, lambda b: HypernetworkModel(b, 2, (5,), 3, vectorize=False, train_base=False)
    ),
    "concatenation": Case(ConcatenationModel, lambda seed: base(seed, 6), lambda b: ConcatenationModel(b, NAMES)),
    "decision, plain": Case(DecisionModel, Network, _decision),
    "decision, adapters": Case(DecisionModel, _adapted, _decision),
    "decision, film": Case(DecisionModel, lambda seed: FiLMModel(base(seed), NAMES, (5,)), _decision),
    "decision, hypernetwork, frozen": Case(
        DecisionModel, lambda seed: HypernetworkModel(base(seed), NAMES, (5,), 3, train_base=False), _decision
    ),
}
FROZEN = [name for name in CASES if name.endswith(("frozen", "adapters"))]
# Those whose base is trained and saved with them.
WHOLE = ["film", "hypernetwork", "concatenation", "decision, plain", "decision, film"]


def moved(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with other values in all that is trained, and in its statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).to(parameter))
        for part in model.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.normal_(generator=generator)
                part.num_batches_tracked += 7
    return model.eval()


@torch.no_grad()
def output(model: nn.Module, rows: Tensor = ROWS) -> Tensor:
    """What the model makes of :data:`ROWS`."""
    like = next(parameter for parameter in model.parameters() if parameter.is_floating_point())
    if isinstance(model, ParetoSetModel | DecisionModel):
        return model(rows.to(like))
    inputs = torch.linspace(-1, 1, 4 * len(rows)).view(len(rows), 4).to(like)
    return model(inputs, preferences=rows)
