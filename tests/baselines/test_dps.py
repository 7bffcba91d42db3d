import torch

from mopref.baselines.dps import dps
from mopref.baselines.plain_lora import trained_lora
from mopref.baselines.runs import Trainings
from mopref.preferences import simplex_lattice


def test_a_run_for_each_preference_with_the_steps_of_the_setup(trainings, rows):
    policy = dps(trainings, simplex_lattice(2, 3))
    assert (policy.budget.runs, policy.budget.steps) == (3, 6)
    assert policy.budget.stored_parameters == policy.budget.trained_parameters
    losses = [policy.at([share, 1 - share]).mean_losses(trainings.setup.objective, rows) for share in (0.0, 0.5, 1.0)]
    assert not torch.allclose(losses[0], losses[2], atol=1e-3)


def test_or_with_those_steps_in_total(make_setup):
    from dataclasses import replace

    setup = make_setup()
    trainings = Trainings(replace(setup, config=replace(setup.config, steps=7)))
    policy = dps(trainings, simplex_lattice(2, 3), equal_total=True)
    assert (policy.name, policy.budget.runs, policy.budget.steps) == ("dps-total", 3, 6)


def test_a_run_of_another_length_is_another_run(trainings):
    long, short = trained_lora(trainings, [0.5, 0.5]), trained_lora(trainings, [0.5, 0.5], steps=1)
    assert (long.cost.steps, short.cost.steps) == (2, 1)
    name = next(iter(long.factors))
    assert not torch.equal(long.factors[name][1], short.factors[name][1])
