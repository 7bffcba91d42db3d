"""StepGuard: the order of a step, and what it costs: one look at the numbers where all is well."""

import pytest
import torch
from _faulty_runs import Faulty, faulty_trainer
from accelerate import Accelerator

from mopref.gradients import MGDA
from mopref.objective import Losses, Update
from mopref.objectives import ZDT1
from mopref.scalarizers import Linear
from mopref.training import step_faults
from mopref.training.step_faults import Forward
from mopref.training.step_guard import StepGuard

PREFERENCES = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
UPDATE = Update(None, PREFERENCES)


@pytest.fixture
def model() -> torch.nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Linear(2, 2)


def guard_of(model, scalarizer=None) -> StepGuard:
    return StepGuard(model, ZDT1(), scalarizer or Linear(), Accelerator(cpu=True))


def test_a_step_by_hand(model):
    guard, losses = guard_of(model), model(PREFERENCES)
    gathered, preferences = guard.gathered(Losses(losses), UPDATE, 0)
    assert torch.equal(gathered, losses)
    assert torch.equal(preferences, PREFERENCES)
    assert not gathered.requires_grad
    scalarized = guard.scalarized(losses, UPDATE, 0)
    torch.testing.assert_close(scalarized, (losses * PREFERENCES).sum(dim=1))
    total = guard.total(scalarized.mean(), torch.tensor(0.5))
    torch.testing.assert_close(total, scalarized.mean() + 0.5)
    total.backward()
    forwards = [Forward.of(UPDATE, losses, scalarized, None)] * 2
    norm = guard.clip_gradients(forwards, None, 0)
    torch.testing.assert_close(norm, torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
    numbers = guard.numbers(forwards, 0.1, norm)
    expected = [scalarized.mean().item(), *losses.mean(dim=0).tolist(), 0.1, norm.item()]
    assert numbers.tolist() == pytest.approx(expected)


def test_a_gradient_weighting_gives_the_sum_of_its_weighted_losses(model):
    losses = model(PREFERENCES)
    scalarized = guard_of(model, MGDA()).scalarized(losses, UPDATE, 0)
    assert scalarized.shape == (2,)
    lowest, highest = losses.amin(dim=1), losses.amax(dim=1)
    assert ((scalarized >= lowest - 1e-6) & (scalarized <= highest + 1e-6)).all()


def test_shapes_are_refused(model):
    guard = guard_of(model)
    with pytest.raises(ValueError, match=r"ZDT1\.losses returned shape"):
        guard.gathered(Losses(torch.ones(2)), UPDATE, 0)
    with pytest.raises(ValueError, match="they must make one number"):
        guard.total(torch.ones(2), torch.ones(2))


def test_where_all_is_well_no_parameter_is_looked_at(monkeypatch):
    """Nothing beside the norm is computed from the gradients; the culprit is looked for after the fault only."""
    looked = []
    monkeypatch.setattr(step_faults, "_cause", lambda *parts: looked.append(parts))
    faulty_trainer(Faulty(), Linear(), steps=4).train()
    assert not looked
    with pytest.raises(FloatingPointError, match="the gradient of the losses for preferences"):
        faulty_trainer(Faulty("gradient"), Linear()).train()
    assert looked
