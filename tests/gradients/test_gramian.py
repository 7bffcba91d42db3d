"""Gramians against explicit Jacobians, for several groups that share one network."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mopref.gradients import cosines, gramian, gramians

GROUPS, OBJECTIVES = 5, 3


class NoBatchedBackward(torch.autograd.Function):
    """The identity, with a backward pass that reads a number from its gradient, which a batched one cannot do."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient if gradient.sum().item() == gradient.sum().item() else None


class Shared(nn.Module):
    """G groups of three rows through one network; the layer ``spare`` is trained by the last objective only."""

    def __init__(self, middle=None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, OBJECTIVES - 1)
            self.spare = nn.Linear(6, 1)
            self.unused = nn.Linear(2, 2)
            self.rows = torch.randn(GROUPS, 3, 4)
        self.middle = middle or nn.Identity()

    def losses(self) -> torch.Tensor:
        hidden = self.middle(torch.tanh(self.first(self.rows.to(self.first.weight))))
        return torch.cat([self.second(hidden), self.spare(hidden)], dim=-1).square().mean(dim=1)


def jacobians(losses: torch.Tensor, parameters: list[torch.Tensor]) -> torch.Tensor:
    """(G, m, all parameters), one backward pass at a time."""
    rows = []
    for loss in losses.flatten():
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(gradients, parameters, strict=True)
        rows.append(torch.cat([torch.zeros(p.numel()) if g is None else g.flatten() for g, p in pairs]))
    return torch.stack(rows).reshape(*losses.shape, -1)


@pytest.mark.parametrize("groups_at_once", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("middle", [None, NoBatchedBackward.apply], ids=["batched", "one by one"])
def test_equals_explicit_jacobians(groups_at_once, middle):
    model = Shared(middle)
    parameters = list(model.parameters())
    result = gramians(model.losses(), parameters, groups_at_once)
    jacobian = jacobians(model.losses(), parameters).double()
    assert result.dtype == torch.float64
    assert not result.requires_grad
    torch.testing.assert_close(result, jacobian @ jacobian.mT, rtol=1e-5, atol=1e-9)


def test_the_operation_without_a_batched_backward_pass_has_none():
    """Otherwise the test above would not see the loop."""
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"(?i)batching rule|vmap"):
        torch.autograd.grad(NoBatchedBackward.apply(x), x, torch.eye(3), is_grads_batched=True)


def test_the_graph_stays_for_the_backward_pass_and_no_gradient_is_touched():
    model = Shared()
    losses = model.losses()
    before = gramians(losses, model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(gramians(losses, model.parameters()), before)
    losses.sum().backward()
    assert model.first.weight.grad.abs().sum() > 0


def test_weighted_losses_give_the_weighted_sum_of_all_groups_gradients():
    """What a training step does with the weights, for a network that all groups share."""
    model = Shared()
    losses = model.losses()
    weights = torch.rand(GROUPS, OBJECTIVES, generator=torch.Generator().manual_seed(2))
    parameters = list(model.parameters())
    gramians(losses, parameters)
    (weights * losses).sum().backward()
    got = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters])
    expected = torch.einsum("gm,gmp->p", weights, jacobians(model.losses(), parameters))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_frozen_parameters_are_left_out():
    model = Shared()
    model.first.requires_grad_(False)
    chosen = [*model.second.parameters(), *model.spare.parameters()]
    torch.testing.assert_close(gramians(model.losses(), model.parameters()), gramians(model.losses(), chosen))


def test_gradient_checkpointing_and_dropout():
    """The forward pass is done again in every backward pass, with the same dropout mask."""
    layer = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Tanh())
    results = []
    for middle in (layer, lambda x: checkpoint(layer, x, use_reentrant=False)):
        model = Shared(middle)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            losses = model.losses()
            torch.rand(3)
            results.append(gramians(losses, [*model.first.parameters(), *layer.parameters()]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-9)


def test_small_differences_of_large_gradients_survive():
    """Gradients a + δ and a − δ, of a thousand ones each: ‖(g1 − g2) / 2‖² is 1000 δ², far below float32 of ‖a‖²."""
    x = torch.ones(1000, requires_grad=True)
    slope = torch.ones(1000) + 2.0**-20
    losses = torch.stack([(slope * x).sum(), x.sum()]).unsqueeze(0)
    gram = gramians(losses, [x])[0]
    difference = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert (difference @ gram @ difference).item() == pytest.approx(1000 * 2.0**-40, rel=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 0.05)])
def test_ordinary_networks_take_the_batched_way(dtype, tolerance, monkeypatch):
    """The loop stands in silently, so that a needless fall-back would only be slow."""
    monkeypatch.setattr(gramian, "_gradients_one_by_one", None)
    model = Shared().to(dtype)
    result = gramians(model.losses(), model.parameters(), groups_at_once=2)
    assert result.dtype == torch.float64
    exact_model = Shared().double()
    exact = jacobians(exact_model.losses(), list(exact_model.parameters())).double()
    torch.testing.assert_close(result, exact @ exact.mT, rtol=0, atol=tolerance * result.abs().max().item())


@pytest.mark.parametrize(
    ("losses", "parameters", "options", "message"),
    [
        (torch.ones(2, 2), [torch.ones(1, requires_grad=True)], {}, "requires_grad=False"),
        (torch.ones(2, requires_grad=True), [torch.ones(1, requires_grad=True)], {}, r"\(2,\)"),
        (torch.ones(2, 2, requires_grad=True), [torch.ones(1)], {}, "none of the parameters"),
        (torch.ones(2, 2, requires_grad=True), [torch.ones(1, requires_grad=True)], {"groups_at_once": 0}, "is 0"),
    ],
)
def test_invalid_arguments_raise(losses, parameters, options, message):
    with pytest.raises(ValueError, match=message):
        gramians(losses, parameters, **options)


@pytest.mark.parametrize("count", [2.0, "2", True])
def test_the_groups_held_at_once_are_a_whole_number(count):
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"groups_at_once is .*: give a whole number"):
        gramians(x.square().unsqueeze(0), [x], groups_at_once=count)


def test_cosines_are_those_of_the_angles():
    gradients = torch.tensor([[3.0, 4.0], [-4.0, 3.0], [-30.0, -40.0]], dtype=torch.float64)
    expected = [[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]
    found = cosines((gradients @ gradients.T).expand(2, 3, 3))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64).expand(2, 3, 3))


def test_a_gradient_of_0_has_no_angle():
    assert torch.isnan(cosines(torch.zeros(1, 1))).all()


def test_cosines_of_what_is_no_square_are_refused():
    with pytest.raises(ValueError, match=r"gramians have shape \(2, 3\)"):
        cosines(torch.ones(2, 3))
