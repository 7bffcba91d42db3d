"""The clipped surrogate: values −J_i, and the gradient that PPO's own formula has on the weighted advantage."""

import pytest
import torch
from _tensors import DEVICE, rand, randn, tensor, tolerance

from mopref.gradients.gramian import gramians
from mopref.llm.policy_gradient.surrogate import policy_losses
from mopref.scalarizers import Linear, SmoothTchebycheff, Tchebycheff

GROUPS, ROWS, TOKENS, M, CLIP = 2, 6, 4, 3, 0.2


def make_case(seed: int = 0, drift: float = 0.4):
    generator = torch.Generator().manual_seed(seed)
    old = -rand((ROWS, TOKENS), generator)
    new = (old + drift * randn((ROWS, TOKENS), generator)).requires_grad_()
    advantages = randn((ROWS, TOKENS, M), generator)
    mask = torch.arange(TOKENS) < torch.randint(1, TOKENS + 1, (ROWS, 1), generator=generator)
    estimates = randn((GROUPS, M), generator)
    return new, old, advantages, mask.to(DEVICE), estimates


def plain_loss(new, old, advantages, mask, weights):
    """−mean over a group's responses of Σ_t min(ρ Â, clip(ρ) Â), Â = Σ_i w_i A_i, by autograd."""
    combined = (advantages * weights.repeat_interleave(ROWS // GROUPS, 0)[:, None]).sum(-1)
    ratios = (new - old).exp()
    surrogate = torch.minimum(ratios * combined, ratios.clamp(1 - CLIP, 1 + CLIP) * combined)
    return -(surrogate * mask).sum(1).view(GROUPS, -1).mean(1).sum()


def test_values_are_the_negative_estimates():
    new, old, advantages, mask, estimates = make_case()
    assert torch.equal(policy_losses(new, old, advantages, mask, estimates, CLIP), -estimates)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("drift", [0.0, 0.4])
def test_linear_gradient_is_that_of_ppo_on_the_weighted_advantage(seed, drift):
    new, old, advantages, mask, estimates = make_case(seed, drift)
    preferences = tensor([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    losses = policy_losses(new, old, advantages, mask, estimates, CLIP)
    (actual,) = torch.autograd.grad(Linear()(losses, preferences).sum(), new)
    (expected,) = torch.autograd.grad(plain_loss(new, old, advantages, mask, preferences), new)
    torch.testing.assert_close(actual, expected)
    assert (actual[~mask] == 0).all()
    if drift:
        assert (actual[mask] == 0).any(), "some token is clipped, or this test says nothing of clipping"


def test_clipping_looks_at_the_sum_not_at_each_objective():
    """Two objectives pull in opposite ways: where their sum is clipped there is no gradient at all."""
    new, advantages = tensor([[0.5]]).requires_grad_(), tensor([[[3.0, -1.0]]])
    arguments = (tensor([[0.0]]), advantages, tensor([[True]], torch.bool), tensor([[0.0, 0.0]]), CLIP)
    losses = policy_losses(new, *arguments)
    (both,) = torch.autograd.grad((0.5 * losses).sum(), new, retain_graph=True)
    (second,) = torch.autograd.grad(losses[0, 1], new)
    assert both.item() == 0.0
    assert second.item() == pytest.approx(torch.tensor(0.5).exp().item(), rel=tolerance(1e-6))


@pytest.mark.parametrize("scalarizer", [Tchebycheff(ideal=[-9.0] * 3), SmoothTchebycheff(mu=0.5, ideal=[-9.0] * 3)])
def test_non_linear_scalarizers_weigh_by_the_estimates(scalarizer):
    """The gradient is Σ_i ∂g/∂J_i ∇J_i with ∂g/∂J_i taken at the group's estimates."""
    new, old, advantages, mask, estimates = make_case(drift=0.0)
    preferences = tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    losses = policy_losses(new, old, advantages, mask, estimates, CLIP)
    (actual,) = torch.autograd.grad(scalarizer(losses, preferences).sum(), new)
    values = (-estimates).requires_grad_()
    (weights,) = torch.autograd.grad(scalarizer(values, preferences).sum(), values)
    (expected,) = torch.autograd.grad(plain_loss(new, old, advantages, mask, weights), new)
    torch.testing.assert_close(actual, expected)


def test_gramians_work_on_these_losses():
    new, old, advantages, mask, estimates = make_case()
    losses = policy_losses(new, old, advantages, mask, estimates, CLIP)
    gradients = torch.stack(
        [torch.autograd.grad(loss, new, retain_graph=True)[0].flatten() for loss in losses.flatten()]
    ).view(GROUPS, M, -1)
    torch.testing.assert_close(
        gramians(losses, [new]), gradients.double() @ gradients.double().mT, rtol=1e-5, atol=1e-6
    )


def test_at_the_rollout_the_gradient_is_that_of_minus_the_advantage_times_log_pi():
    """ρ = 1: −Σ_t Â_t log π_t / N_g by autograd, the plain policy gradient."""
    new, old, advantages, mask, estimates = make_case(drift=0.0)
    weights = tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    losses = policy_losses(new, old, advantages, mask, estimates, CLIP)
    (actual,) = torch.autograd.grad((weights * losses).sum(), new)
    combined = (advantages * weights.repeat_interleave(ROWS // GROUPS, 0)[:, None]).sum(-1)
    (expected,) = torch.autograd.grad(-(combined * new * mask).sum() / (ROWS // GROUPS), new)
    torch.testing.assert_close(actual, expected)
