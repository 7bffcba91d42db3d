import pytest
import torch

from mopref.llm.rewards.running_scale import RunningScale


def test_it_is_the_standard_deviation_of_all_so_far():
    generator = torch.Generator().manual_seed(0)
    scale, seen = RunningScale(3), []
    for count in (4, 1, 7, 2):
        rewards = torch.randn(count, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 1e3, 1e-3]) + 50
        scale.observe(rewards)
        seen.append(rewards)
        torch.testing.assert_close(scale.deviations, torch.cat(seen).std(dim=0), rtol=1e-9, atol=0)


def test_what_has_not_varied_counts_as_one():
    scale = RunningScale(2)
    assert scale.deviations.tolist() == [1.0, 1.0]
    scale.observe(torch.tensor([[3.0, 1.0], [3.0, 2.0]], dtype=torch.float64))
    assert scale.deviations.tolist() == [1.0, pytest.approx(0.5**0.5)]


def test_it_continues_from_its_state():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    scale, resumed = RunningScale(2), RunningScale(2)
    scale.observe(first)
    resumed.load_state_dict(scale.state_dict())
    for part in (scale, resumed):
        part.observe(second)
    assert torch.equal(scale.deviations, resumed.deviations)
    assert scale.count == resumed.count == 10


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.7, 0.9, -1 / 3, 1e6 + 0.1])
def test_a_constant_reward_is_not_divided_by_rounding(constant):
    """The mean of seven .7 is not .7, and a reward must not become 10^15 by that."""
    scale = RunningScale(2)
    for count in (7, 3, 12):
        scale.observe(torch.stack([torch.full((count,), constant).double(), torch.arange(count).double()], dim=1))
    assert scale.deviations[0] == 1
    assert scale.deviations[1] > 1
