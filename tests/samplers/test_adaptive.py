"""AdaptiveSampler: uniform until it knows better, then where the front is long or where regret is."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy.stats import beta, kstest

from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig
from mopref.objectives import Quadratic
from mopref.preferences import simplex_cells
from mopref.samplers.adaptive import AdaptiveSampler
from mopref.scalarizers import Linear, ModifiedTchebycheff
from mopref.training.checkpoint import load_state, save_state


def stretched(preferences):
    """f = (t, 1 − √t) with t = λ_1⁴: the front crawls near λ_1 = 0 and runs near λ_1 = 1."""
    t = preferences[:, 0].double() ** 4
    return torch.stack([t, 1 - t.sqrt()], dim=1)


def on_the_sphere(preferences):
    """Where each preference's ray meets the unit sphere: the exact optimum of modified Tchebycheff."""
    return preferences.double() / preferences.double().norm(dim=1, keepdim=True)


def taught(front, m=2, steps=100, scalarizer=None, per_step=64, **settings):
    """A sampler that has drawn and observed the losses of ``front``."""
    sampler = AdaptiveSampler(m, **settings)
    for _ in range(steps):
        preferences = sampler.sample(per_step)
        sampler.observe(preferences, front(preferences), scalarizer or Linear())
    return sampler


def position(first_weight):
    """Length along the stretched front from λ_1 = 0, over its whole length."""
    fine = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    steps = stretched(fine[:, None]).diff(dim=0).norm(dim=1).numpy()
    return np.interp(first_weight, fine.numpy(), np.concatenate([[0], np.cumsum(steps)]) / steps.sum())


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_draws_become_even_along_the_front(share):
    """Of the distance between the draws' distribution along the front and an even one, the uniform share remains."""
    uneven = kstest(position(np.linspace(0, 1, 4001)), "uniform").statistic
    assert uneven > 0.3
    drawn = taught(stretched, uniform_probability=share).sample(8000)[:, 0].double().numpy()
    assert kstest(position(drawn), "uniform").statistic == pytest.approx(share * uneven, abs=0.04)


def test_length_does_not_depend_on_the_units():
    settings = {"uniform_probability": 0.1, "seed": 3}

    def scaled(preferences):
        return stretched(preferences) * torch.tensor([1000.0, 0.01]) + torch.tensor([-5.0, 70.0])

    # Weights are computed once, so that both have drawn the same until then.
    one, other = (taught(front, steps=20, refresh_every=20, **settings) for front in (stretched, scaled))
    np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-6)


def test_with_three_objectives_weights_go_with_area():
    """Losses three times as far apart on one half of the simplex span nine times the area there."""

    def folded(preferences):
        large = preferences[:, :1] > 0.5
        return torch.where(large, 3 * preferences, preferences).double()

    sampler = taught(folded, m=3, steps=400, uniform_probability=0.5, num_cells=256, forgetting=1.0)
    weights = 2 * sampler.probabilities - 1 / 256
    first = sampler.cells[:, :, 0]
    inside = np.median(weights[first.min(axis=1) > 0.6])
    outside = np.median(weights[first.max(axis=1) < 0.4])
    assert 6 < inside / outside < 13


def planted(preferences):
    """Exact everywhere but for λ_1 between .25 and .375, where everything is half as much again."""
    bad = (preferences[:, :1] > 0.25) & (preferences[:, :1] < 0.375)
    return torch.where(bad, 1.5, 1.0) * on_the_sphere(preferences)


def exchanged(preferences):
    """Exact everywhere but for λ_1 between .25 and .375, which reach another preference's point."""
    bad = (preferences[:, :1] > 0.25) & (preferences[:, :1] < 0.375)
    return on_the_sphere(torch.where(bad, torch.tensor([0.9, 0.1]), preferences))


@pytest.mark.parametrize("front", [planted, exchanged])
def test_draws_go_where_regret_is(front):
    settings = {
        "scalarizer": ModifiedTchebycheff(ideal=[0.0, 0.0], convention="ray"),
        "by": "regret",
        "uniform_probability": 0.3,
    }
    drawn = taught(front, **settings).sample(4000)[:, 0]
    there = ((drawn > 0.25) & (drawn < 0.375)).double().mean().item()
    # All of the adaptive draws but for the little that a cell's mean loses against the exact point at its centre.
    assert there > 0.3 / 8 + 0.7 * 0.9
    # Length looks at the same losses and knows nothing of it.
    drawn = taught(front, uniform_probability=0.3).sample(4000)[:, 0]
    assert ((drawn > 0.25) & (drawn < 0.375)).double().mean().item() < 0.5


def test_regret_by_hand():
    """Two cells; max f_i/λ_i is 4 with a cell's own point and 12 with the other's, then 8 where 6 was to be had."""
    scalarizer = ModifiedTchebycheff(ideal=[0.0, 0.0], convention="ray")
    sampler = AdaptiveSampler(2, by="regret", num_cells=2)
    for preference, losses in (((0.75, 0.25), (3.0, 0.5)), ((0.25, 0.75), (1.0, 3.0)), ((0.25, 0.75), (2.0, 3.0))):
        assert sampler.state_dict()["regrets"].max() == 0
        sampler.observe(torch.tensor([preference]), torch.tensor([losses]), scalarizer)
    # The cell's mean is (1.5, 3) by now, so the third regret is √((8 − 6) / (12 − 6)), and the first one was 0.
    assert sampler.state_dict()["regrets"].max().item() == pytest.approx(math.sqrt(1 / 3) / 2)


def test_regret_is_a_share_of_what_there_is_to_lose():
    """At the corners modified Tchebycheff is a thousand times larger, and does not get all draws for it."""

    def worse(preferences):
        return 1.2 * on_the_sphere(preferences).where(
            preferences[:, :1] < 0.5, on_the_sphere(preferences.clamp(min=0.02))
        )

    sampler = taught(
        worse, scalarizer=ModifiedTchebycheff(ideal=[0.0, 0.0], convention="ray"), by="regret", uniform_probability=0.01
    )
    assert sampler.probabilities.max() < 0.9


def test_uniform_until_every_cell_was_seen():
    sampler = AdaptiveSampler(2, num_cells=8, refresh_every=1)
    even = np.full(8, 1 / 8)
    preferences = torch.stack([torch.arange(1, 16, 2) / 16, torch.arange(15, 0, -2) / 16], dim=1)
    for row in preferences[:7]:
        sampler.observe(row[None], stretched(row[None]), Linear())
        np.testing.assert_array_equal(sampler.probabilities, even)
    assert kstest(sampler.sample(2000)[:, 0].numpy(), "uniform").pvalue > 1e-3
    sampler.observe(preferences[7:], stretched(preferences[7:]), Linear())
    assert sampler.probabilities.max() > 1.5 / 8


def test_weights_are_computed_after_so_many_calls():
    sampler = AdaptiveSampler(2, num_cells=4, refresh_every=3)
    preferences = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
    changed = []
    for factor in range(1, 7):
        before = sampler.probabilities
        sampler.observe(preferences, stretched(preferences) ** factor, Linear())
        changed.append(not np.array_equal(sampler.probabilities, before))
    assert changed == [False, False, True, False, False, True]


@pytest.mark.parametrize("by", ["length", "regret"])
@pytest.mark.parametrize("noise", [0.0, 1e-13])
def test_a_collapsed_front_gets_uniform_draws(by, noise):
    def collapsed(preferences):
        return torch.tensor([0.7, 40.0]).double() * (1 + noise * torch.rand(len(preferences), 2).double())

    sampler = taught(collapsed, by=by)
    np.testing.assert_array_equal(sampler.probabilities, np.full(64, 1 / 64))
    assert kstest(sampler.sample(2000)[:, 0].numpy(), "uniform").pvalue > 1e-3


def test_no_regret_gets_uniform_draws():
    """f_i = (1 − λ_i)² is the optimum of Σ λ_i f_i on the front √f_1 + √f_2 = 1, for every λ."""
    sampler = taught(lambda preferences: (1 - preferences.double()) ** 2, by="regret", num_cells=16, forgetting=1.0)
    np.testing.assert_allclose(sampler.probabilities, 1 / 16, atol=1e-9)


def test_means_forget():
    """Of a cell's losses 4, 0, 0, 8: the mean of the first ones, then a quarter of the newest."""
    sampler = AdaptiveSampler(2, num_cells=2, forgetting=0.3)
    here = torch.tensor([[0.8, 0.2]])
    means = []
    for loss in (4.0, 0.0, 0.0, 8.0):
        # Two preferences of one cell in one step count by their mean.
        losses = torch.tensor([[loss - 1, 0.0], [loss + 1, 0.0]])
        sampler.observe(here.repeat(2, 1), losses, Linear())
        means.append(sampler.state_dict()["losses"][:, 0].max().item())
    assert means == pytest.approx([4.0, 2.0, 4 / 3, 4 / 3 + 0.3 * (8 - 4 / 3)])


def test_a_changed_front_is_followed():
    """The stretch moves to the other end, and the draws with it."""
    sampler = taught(stretched, uniform_probability=0.2)
    assert sampler.sample(2000)[:, 0].mean() > 0.6
    for _ in range(100):
        preferences = sampler.sample(64)
        sampler.observe(preferences, stretched(1 - preferences), Linear())
    assert sampler.sample(2000)[:, 0].mean() < 0.4


@given(
    m=st.integers(1, 5),
    n=st.integers(1, 30),
    by=st.sampled_from(["length", "regret"]),
    seed=st.integers(0, 5),
)
def test_every_draw_is_valid(m, n, by, seed):
    sampler = taught(lambda preferences: preferences.double() ** 3, m=m, by=by, num_cells=6, steps=12, seed=seed)
    assert m == 1 or sampler.state_dict()["probabilities"] is not None
    for sample in (sampler.sample(n), sampler.sample(200)):
        assert (sample >= 0).all()
        assert (sample.double().sum(-1) - 1).abs().max() < 1e-6
    assert sampler.probabilities.sum() == pytest.approx(1)
    assert (sampler.probabilities >= 0.5 / 6 - 1e-12).all()


def test_draws_in_a_cell_are_uniform_in_it():
    """One cell with all the weight: triangles of equal volume inside it are hit equally often."""
    sampler = AdaptiveSampler(3, num_cells=10, uniform_probability=1e-9, refresh_every=1)
    centres = torch.from_numpy(sampler.cells.mean(axis=1))
    losses = on_the_sphere(centres)
    losses[4] *= 2
    sampler.observe(centres, losses, ModifiedTchebycheff(ideal=[0.0] * 3, convention="ray"))
    sampler.by = "regret"
    sampler.observe(centres, losses, ModifiedTchebycheff(ideal=[0.0] * 3, convention="ray"))
    coordinates = sampler.sample(4000).double().numpy() @ np.linalg.inv(simplex_cells(3, 10)[4])
    assert (coordinates > -1e-6).all()
    for weights in coordinates.T:
        assert kstest(weights, beta(1, 2).cdf).statistic < 1.95 / math.sqrt(4000)


@pytest.mark.parametrize("by", ["length", "regret"])
def test_a_checkpoint_continues_in_the_middle(by, tmp_path):
    scalarizer = ModifiedTchebycheff(ideal=[0.0, 0.0], convention="ray")
    sampler = taught(stretched, by=by, steps=33, scalarizer=scalarizer)
    save_state(sampler.state_dict(), tmp_path)
    other = AdaptiveSampler(2, by=by, seed=9)
    other.load_state_dict(load_state(tmp_path))
    for _ in range(25):
        expected, preferences = sampler.sample(16), other.sample(16)
        assert torch.equal(preferences, expected)
        for one in (sampler, other):
            one.observe(preferences, stretched(preferences), scalarizer)
    np.testing.assert_array_equal(sampler.probabilities, other.probabilities)


def test_a_saved_state_is_a_snapshot():
    sampler = taught(stretched, steps=40)
    state = sampler.state_dict()
    other = AdaptiveSampler(2)
    other.load_state_dict(state)
    expected, losses = other.sample(8), state["losses"].clone()
    for one in (sampler, other):
        one.observe(torch.tensor([[0.5, 0.5]]), torch.tensor([[9.0, 9.0]]), Linear())
    assert torch.equal(state["losses"], losses)
    fresh = AdaptiveSampler(2)
    fresh.load_state_dict(state)
    assert torch.equal(fresh.sample(8), expected)


def test_seeding_starts_anew():
    sampler = taught(stretched, seed=4)
    sampler.seed(4)
    np.testing.assert_array_equal(sampler.probabilities, np.full(64, 1 / 64))
    fresh = AdaptiveSampler(2, seed=4)
    for _ in range(50):
        preferences = fresh.sample(64)
        assert torch.equal(sampler.sample(64), preferences)
        for one in (sampler, fresh):
            one.observe(preferences, stretched(preferences), Linear())


def test_the_trainer_teaches_it(tmp_path):
    """Every forward is observed, and a resumed run draws what the uninterrupted one draws."""
    problem = Quadratic([[0.0, 0.0], [1.0, 1.0]])

    def trainer(sampler, steps):
        settings = {"preferences_per_step": 8, "gradient_accumulation_steps": 2, "lr_schedule": "constant"}
        config = TrainerConfig(steps=steps, cpu=True, progress=False, **settings)
        return ParetoTrainer(ParetoSetModel.for_problem(problem), problem, Linear(), sampler=sampler, config=config)

    def sampler():
        return AdaptiveSampler(2, num_cells=8, refresh_every=2)

    uninterrupted, first, second = trainer(sampler(), 12), trainer(sampler(), 6), trainer(sampler(), 12)
    uninterrupted.train()
    assert uninterrupted.sampler.state_dict()["observed"] == 24
    assert uninterrupted.sampler.state_dict()["probabilities"] is not None
    first.train()
    first.save_checkpoint(tmp_path / "checkpoint")
    second.train(resume_from=tmp_path / "checkpoint")
    np.testing.assert_array_equal(uninterrupted.front(5).values, second.front(5).values)
    np.testing.assert_array_equal(uninterrupted.sampler.probabilities, second.sampler.probabilities)


def test_losses_may_carry_a_gradient_or_be_half_precision():
    sampler = AdaptiveSampler(2, num_cells=2, refresh_every=1)
    losses = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.bfloat16, requires_grad=True)
    sampler.observe(torch.eye(2), losses, Linear())
    assert sampler.state_dict()["losses"].sum().item() == 2.0


def test_regret_needs_a_scalarizer():
    preferences = torch.tensor([[0.5, 0.5]])
    with pytest.raises(TypeError, match="gradient weighting"):
        AdaptiveSampler(2, by="regret").observe(preferences, preferences, None)
    AdaptiveSampler(2, by="length").observe(preferences, preferences, None)


def test_a_state_of_other_cells_raises():
    with pytest.raises(ValueError, match="32"):
        AdaptiveSampler(2).load_state_dict(AdaptiveSampler(2, num_cells=32).state_dict())


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": "area"},
        {"uniform_probability": 0.0},
        {"uniform_probability": 1.1},
        {"num_cells": 1},
        {"forgetting": 0.0},
        {"forgetting": math.nan},
        {"refresh_every": 0},
        {"num_objectives": 0},
    ],
)
def test_invalid_settings_raise(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong)))):
        AdaptiveSampler(**({"num_objectives": 2} | wrong))
