"""What the trainer does with samplers that learn, gradient weightings, and grids that are even on the front."""

import numpy as np
import pytest
import torch

from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig, simplex_lattice
from mopref.gradients import EPO, MGDA, CAGrad, TorchJD, WeightedMGDA
from mopref.gradients.weighting import GradientWeighting
from mopref.indicators import fill_distance
from mopref.objectives import VLMOP2, ZDT1, Quadratic
from mopref.samplers.adaptive import AdaptiveSampler
from mopref.scalarizer import Scalarizer
from mopref.scalarizers import (
    PBI,
    AchievementScalarizing,
    Hypervolume,
    InvertedPBI,
    Linear,
    ModifiedTchebycheff,
    Normalized,
    PNorm,
    SmoothTchebycheff,
    Tchebycheff,
)

QUADRATIC = Quadratic([[0.0, 0.0], [1.0, 0.0]])


def trainer_of(problem, scalarizer, steps=5, sampler=None, **settings):
    settings = {"preferences_per_step": 8, "learning_rate": 5e-3, "cpu": True, "progress": False} | settings
    return ParetoTrainer(
        ParetoSetModel.for_problem(problem, hidden=(32, 32)),
        problem,
        scalarizer,
        sampler=sampler,
        config=TrainerConfig(steps=steps, **settings),
    )


class Own(GradientWeighting):
    """The preference itself, whatever the gradients: linear scalarization."""

    def __init__(self):
        self.seen = []

    def weights(self, losses, gramians, preferences):
        self.seen.append((losses, gramians, preferences))
        return preferences


def test_a_weighting_by_the_preference_is_linear_scalarization():
    fronts = []
    for scalarizer in (Linear(), Own()):
        trainer = trainer_of(QUADRATIC, scalarizer, steps=20)
        trainer.train()
        fronts.append(trainer.front(5).values)
    np.testing.assert_allclose(fronts[0], fronts[1], rtol=1e-6)


def test_a_weighting_sees_each_groups_gramian_of_the_parameters():
    own = Own()
    trainer = trainer_of(QUADRATIC, own, steps=1)
    parameters = list(trainer.model.parameters())
    start = [parameter.detach().clone() for parameter in parameters]
    trainer.train()
    losses, gramians, preferences = own.seen[0]
    with torch.no_grad():
        for parameter, value in zip(parameters, start, strict=True):
            parameter.copy_(value)
    again = QUADRATIC.losses(trainer.model, None, preferences)
    torch.testing.assert_close(losses.double(), again.detach().double())
    assert not losses.requires_grad
    for group in range(8):
        rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in again[group]]
        jacobian = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])
        torch.testing.assert_close(gramians[group].double(), (jacobian @ jacobian.T).double(), rtol=1e-4, atol=1e-5)


def test_epo_gives_each_preference_its_own_point():
    trainer = trainer_of(QUADRATIC, EPO(), steps=300)
    trainer.train()
    front = trainer.front(torch.tensor([[0.3, 0.7], [0.5, 0.5], [0.7, 0.3]]))
    # λ_1 f_1 = λ_2 f_2 on the segment between the centres, where √f_1 + √f_2 = 1.
    ratio = np.sqrt(front.preferences[:, 0] / front.preferences[:, 1])
    expected = np.stack([1 / (1 + ratio) ** 2, (ratio / (1 + ratio)) ** 2], axis=1)
    np.testing.assert_allclose(front.values, expected, atol=0.03)


def test_mgda_ends_in_the_pareto_set():
    trainer = trainer_of(QUADRATIC, MGDA(), steps=200)
    trainer.train()
    with torch.no_grad():
        x = trainer.unwrapped_model(simplex_lattice(2, 5))
    assert x[:, 1].abs().max() < 0.05
    assert x[:, 0].min() > -0.05
    assert x[:, 0].max() < 1.05


@pytest.mark.parametrize("scalarizer", ["cagrad", CAGrad(c=0.8, clip=True)], ids=str)
def test_cagrad_ends_at_the_points_of_linear_scalarization(scalarizer):
    trainer = trainer_of(QUADRATIC, scalarizer, steps=300)
    trainer.train()
    preferences = torch.tensor([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    with torch.no_grad():
        x = trainer.unwrapped_model(preferences)
    torch.testing.assert_close(x, preferences @ torch.tensor([[0.0, 0.0], [1.0, 0.0]]), atol=0.03, rtol=0)


def test_weighted_mgda_ends_in_the_pareto_set():
    trainer = trainer_of(QUADRATIC, WeightedMGDA(), steps=200)
    trainer.train()
    with torch.no_grad():
        x = trainer.unwrapped_model(simplex_lattice(2, 5))
    assert x[1:-1, 1].abs().max() < 0.05
    assert x[:, 0].min() > -0.05
    assert x[:, 0].max() < 1.05


@pytest.mark.parametrize("problem", [ZDT1(5), VLMOP2(5)], ids=lambda problem: type(problem).__name__)
def test_a_grid_even_on_the_front_fills_it_better(problem):
    trainer = trainer_of(problem, ModifiedTchebycheff(ideal=[0, 0]), steps=400, preferences_per_step=32)
    trainer.train()
    lattice, even, learned = trainer.front(21), trainer.front(21, spread="front"), trainer.front(3000).values
    assert len(even) == 21
    assert fill_distance(even.values, learned) < 0.9 * fill_distance(lattice.values, learned)


def test_a_resumed_training_goes_on_with_what_the_sampler_had_learned(tmp_path):
    def make(steps):
        sampler = AdaptiveSampler(2)
        return trainer_of(
            ZDT1(5), ModifiedTchebycheff(ideal=[0, 0]), steps, sampler, lr_schedule="constant", warmup_ratio=0.0
        )

    uninterrupted = make(60)
    uninterrupted.train()
    first = make(30)
    first.train()
    first.save_checkpoint(tmp_path / "half")
    second = make(60)
    second.train(resume_from=tmp_path / "half")
    np.testing.assert_array_equal(second.front(9).values, uninterrupted.front(9).values)


def test_an_unknown_spread_is_refused():
    with pytest.raises(ValueError, match="spread is 'even': choose 'preferences' or 'front'"):
        trainer_of(QUADRATIC, Linear()).front(5, spread="even")


def test_preferences_that_are_given_cannot_be_spread():
    with pytest.raises(ValueError, match="spread is 'front', but the preferences are given"):
        trainer_of(QUADRATIC, Linear()).front([[0.5, 0.5]], spread="front")


THREE = Quadratic([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("scalarizer", "message"),
    [
        *((kind(ideal=[0.0, 0.0]), "ideal") for kind in (Tchebycheff, PBI, PNorm, SmoothTchebycheff, EPO)),
        (InvertedPBI(nadir=[9.0, 9.0]), "nadir"),
        *((kind([9.0, 9.0]), "reference_point") for kind in (AchievementScalarizing, Hypervolume)),
        (Normalized(Linear(), ideal=[0.0, 0.0]), "ideal"),
        (Normalized(Linear(), nadir=[9.0, 9.0]), "nadir"),
        (Normalized(PBI(ideal=[0.0, 0.0])), "ideal"),
        (Normalized(Normalized(Hypervolume([2.0, 2.0]))), "reference_point"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_point_of_another_length_is_refused_when_the_trainer_is_made(scalarizer, message):
    with pytest.raises(ValueError, match=f"{message} has 2 numbers, but there are 3 objectives: give one for each"):
        trainer_of(THREE, scalarizer)
    trainer_of(QUADRATIC, scalarizer)


def test_constant_weights_of_another_length_are_refused_when_the_trainer_is_made():
    aggregation = pytest.importorskip("torchjd.aggregation")
    weighting = TorchJD(aggregation.ConstantWeighting(torch.ones(2)))
    with pytest.raises(ValueError, match="weights of method has 2 numbers, but there are 3 objectives"):
        trainer_of(THREE, weighting)
    trainer_of(QUADRATIC, weighting)


def test_a_point_tracked_over_other_objectives_is_refused_when_the_trainer_is_made():
    for scalarizer, name in ((PBI(), "ideal"), (InvertedPBI(), "nadir")):
        trainer_of(THREE, scalarizer)
        scalarizer.observe(torch.zeros(1, 2))
        with pytest.raises(ValueError, match=f"the tracked {name} point has 2 numbers, but there are 3 objectives"):
            trainer_of(THREE, scalarizer)


def test_parts_of_ones_own_need_no_such_check():
    class OwnScalarizer(Scalarizer):
        def scalarize(self, losses, preferences):
            return (losses * preferences).sum(dim=-1)

    for part in (OwnScalarizer(), Own()):
        trainer_of(THREE, part)
