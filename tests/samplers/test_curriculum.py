"""CurriculumSampler: how far from the centre a draw may lie, and when; refusals."""

import math

import pytest
import torch

from mopref.samplers import CurriculumSampler, UniformSampler


def reach(sample, m):
    """How far out a preference lies: 0 at the centre, 1 at a border of the simplex."""
    return 1 - m * sample.double().amin(dim=1)


@pytest.mark.parametrize("m", [2, 3, 6])
@pytest.mark.parametrize("start", [0.0, 0.4])
def test_a_draw_lies_within_the_share_of_its_number(m, start):
    sampler = CurriculumSampler(m, num_preferences=200, start=start)
    sample = torch.cat([sampler.sample(n) for n in (1, 7, 92, 100)])
    allowed = start + (1 - start) * torch.arange(200).double() / 200
    assert (reach(sample, m) <= allowed + 1e-6).all()
    corners = CurriculumSampler(m, num_preferences=200, start=start, vertex_probability=1.0).sample(200)
    torch.testing.assert_close(reach(corners, m), allowed, atol=1e-5, rtol=0)


def test_afterwards_draws_are_uniform():
    sampler = CurriculumSampler(3, num_preferences=10)
    sampler.sample(10)
    sample, uniform = sampler.sample(20_000).double(), UniformSampler(3).sample(20_000).double()
    torch.testing.assert_close(sample.mean(0), uniform.mean(0), atol=0.01, rtol=0)
    torch.testing.assert_close(sample.var(0), uniform.var(0), atol=0, rtol=0.05)


def test_the_named_share_is_at_the_corners():
    sampler = CurriculumSampler(3, num_preferences=1, vertex_probability=0.3)
    sampler.sample(1)
    share = (sampler.sample(20_000) == 1).any(-1).double().mean().item()
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.25 / 20_000))


def test_a_draw_in_parts_is_as_far_out_as_one_in_one():
    whole, parts = (CurriculumSampler(2, num_preferences=50, vertex_probability=1.0) for _ in range(2))
    expected = reach(whole.sample(60), 2)
    torch.testing.assert_close(reach(torch.cat([parts.sample(20) for _ in range(3)]), 2), expected)


def test_a_resumed_sampler_is_as_far_out():
    sampler = CurriculumSampler(2, num_preferences=100)
    sampler.sample(60)
    other = CurriculumSampler(2, num_preferences=100)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other.sample(80), sampler.sample(80))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_preferences": 0}, "num_preferences is 0"),
        ({"start": 1.5}, "start is 1.5: it is a share"),
        ({"start": math.nan}, "start is nan"),
        ({"vertex_probability": -0.1}, "vertex_probability is -0.1: it is a probability"),
    ],
)
def test_numbers_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CurriculumSampler(2, **options)


@pytest.mark.parametrize("drawn", [None, -1, 2.5, "3"])
def test_a_state_that_is_none_is_refused(drawn):
    sampler = CurriculumSampler(2)
    state = {**sampler.state_dict(), "drawn": drawn}
    with pytest.raises(ValueError, match="drawn"):
        sampler.load_state_dict(state)
