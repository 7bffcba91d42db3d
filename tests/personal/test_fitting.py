"""λ and its region from choices."""

import numpy as np
import pytest
import torch
from personal_inputs import margins, rewards

from mopref.personal import PairMargins, fit_choices
from mopref.personal.posterior import posterior


@pytest.mark.parametrize("m", [2, 3, 4])
def test_lambda_is_the_posterior_mean_and_lies_on_the_simplex(m):
    pairs, choices = margins(6, m), {0: 0, 2: 1, 5: 1}
    preference, region = fit_choices(pairs, choices, alpha=2.0, decisiveness=[1.0, 3.0], level=0.5)
    expected = posterior(pairs, choices, alpha=2.0, decisiveness=[1.0, 3.0])
    torch.testing.assert_close(preference, (expected.of_points().unsqueeze(1) * expected.points).sum(dim=0))
    assert float(preference.sum()) == pytest.approx(1)
    assert region.level == 0.5
    assert region.names == pairs.names
    torch.testing.assert_close(region.probabilities, expected.of_points())


def test_each_choice_moves_lambda_towards_what_was_chosen():
    pairs = PairMargins([[1.0, -1.0], [-1.0, 1.0]], ("a", "b"))
    assert fit_choices(pairs, {0: 0}).preference[0] > 0.55
    assert fit_choices(pairs, {0: 1}).preference[0] < 0.45
    torch.testing.assert_close(fit_choices(pairs, {0: 0}).preference, fit_choices(pairs, {1: 1}).preference)


@pytest.mark.parametrize("m", [2, 3])
def test_the_region_holds_the_truth_about_as_often_as_it_says(m):
    """People whose λ and β_u are drawn from the prior: 9 in 10, within three standard errors of 60 people."""
    held = 0
    for person in range(60):
        generator = np.random.default_rng([7, m, person])
        truth, beta = generator.dirichlet(np.ones(m)), generator.choice([1.0, 2.0, 4.0, 8.0])
        table = rewards(12, m, person)
        chances = 1 / (1 + np.exp(-beta * table @ truth))
        choices = {n: int(generator.random() > chance) for n, chance in enumerate(chances)}
        pairs = PairMargins(table, [f"f{i}" for i in range(m)])
        held += fit_choices(pairs, choices, decisiveness=[1.0, 2.0, 4.0, 8.0]).region.contains(truth)
    assert 0.78 <= held / 60 <= 1.0


def test_more_answers_narrow_the_region():
    table = rewards(64, 3)
    choices = {n: int(d < 0) for n, d in enumerate(table @ np.array([0.6, 0.3, 0.1]))}
    pairs = PairMargins(table, ("a", "b", "c"))
    volumes = [fit_choices(pairs, dict(list(choices.items())[:count])).region.volume for count in (0, 4, 16, 64)]
    assert volumes == sorted(volumes, reverse=True)
    assert volumes[-1] < 0.05 < 0.85 < volumes[0]


def test_other_things_than_margins_are_refused():
    with pytest.raises(TypeError, match="margins"):
        fit_choices([[1.0, -1.0]], {0: 0})
    with pytest.raises(ValueError, match="level"):
        fit_choices(margins(2, 2), {0: 0}, level=2.0)
