"""Parts of one's own: each is one file outside the package, a decorator registers it, and it trains by name.

To add a kind of part: its file in ``FILES``, and a test that trains with it by instance and by name.
"""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from mopref import ParetoSetModel, ParetoTrainer, TrainerConfig
from mopref.gradients import GRADIENT_WEIGHTINGS
from mopref.registry import OBJECTIVES, SAMPLERS, SCALARIZERS
from mopref.scalarizers import Linear

FILES = {
    "outside_problem": '''
import torch

from mopref import Problem
from mopref.registry import OBJECTIVES


@OBJECTIVES.register("outside-parabolas")
class Parabolas(Problem):
    """f_i = (x − i)²: the linear optimum is x = λ_2."""

    def __init__(self):
        super().__init__(num_variables=1, num_objectives=2, bounds=(-2.0, 2.0))

    def evaluate(self, x):
        return torch.cat([x**2, (x - 1) ** 2], dim=-1)
''',
    "outside_row_objective": '''
import torch

from mopref.objective import RowLosses, RowObjective
from mopref.registry import OBJECTIVES


@OBJECTIVES.register("outside-distances")
class Distances(RowObjective):
    """f_i = mean over rows of (x − y_i)² with the row's targets y; a target that is NaN is no label."""

    names = ("low", "high")

    def num_rows(self, batch):
        return len(batch["targets"])

    def labelled(self, data):
        return torch.stack([~row["targets"].isnan() for row in data])

    def row_losses(self, model, batch, preferences):
        targets = batch["targets"].to(preferences)
        return RowLosses((model(preferences) - targets.nan_to_num()).square(), ~targets.isnan())
''',
    "outside_scalarizer": '''
from mopref import Scalarizer
from mopref.registry import SCALARIZERS


@SCALARIZERS.register("outside-doubled")
class Doubled(Scalarizer):
    """Twice the weighted sum: the same optimum as Linear."""

    def scalarize(self, losses, preferences):
        return 2 * (preferences * losses).sum(dim=-1)
''',
    "outside_sampler": '''
import numpy as np

from mopref import PreferenceSampler
from mopref.registry import SAMPLERS


@SAMPLERS.register("outside-halves")
class Halves(PreferenceSampler):
    """λ_1 in {0, ½, 1}; counts what it is shown."""

    observations = 0

    def draw(self, n, generator):
        first = generator.integers(3, size=n) / 2
        return np.stack([first, 1 - first], axis=1)

    def observe(self, preferences, losses, scalarizer):
        assert preferences.shape == losses.shape == (8, 2)
        assert not losses.requires_grad
        self.scalarizer_name = type(scalarizer).__name__
        self.observations += 1
''',
    "outside_weighting": '''
from mopref.gradients import GRADIENT_WEIGHTINGS, GradientWeighting


@GRADIENT_WEIGHTINGS.register("outside-constant")
class Constant(GradientWeighting):
    """The weights of the weighted sum, whatever the gradients."""

    def weights(self, losses, gramians, preferences):
        return preferences
''',
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """The modules of the files, by name."""
    folder = tmp_path_factory.mktemp("outside")
    modules = {}
    for name, source in FILES.items():
        path = folder / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        specification = importlib.util.spec_from_file_location(name, path)
        modules[name] = sys.modules[name] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(modules[name])
    return modules


def make_trainer(objective, scalarizer, sampler=None, steps=150, **options):
    config = {"preferences_per_step": 8, "learning_rate": 5e-3, "cpu": True, "progress": False}
    data = options.pop("train_data", None)
    model = ParetoSetModel(2, 1, bounds=(-2.0, 2.0))
    config = TrainerConfig(steps=steps, **config, **options)
    return ParetoTrainer(model, objective, scalarizer, sampler, train_data=data, config=config)


def assert_linear_optimum(trainer):
    """Minimising Σ_i λ_i (x − i)² ends at x = λ_2."""
    with torch.no_grad():
        x = trainer.unwrapped_model(torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]))
    torch.testing.assert_close(x, torch.tensor([[1.0], [0.5], [0.0]]), rtol=0, atol=0.02)


def ways(outside):
    """Objective, scalarizer and sampler: instances, classes and names."""
    problem, scalarizer = outside["outside_problem"].Parabolas, outside["outside_scalarizer"].Doubled
    sampler = outside["outside_sampler"].Halves
    return {
        "instance": (problem(), scalarizer(), sampler(2)),
        "class": (problem, scalarizer, sampler),
        "name": ("outside-parabolas", "outside-doubled", "outside-halves"),
    }


@pytest.mark.parametrize("way", ["instance", "class", "name"])
def test_a_problem_a_scalarizer_and_a_sampler_train(outside, way):
    trainer = make_trainer(*ways(outside)[way])
    parts = [type(part) for part in (trainer.objective, trainer.scalarizer, trainer.sampler)]
    assert parts == list(ways(outside)["class"])
    trainer.train()
    assert trainer.sampler.observations == 150
    assert trainer.sampler.scalarizer_name == "Doubled"
    assert_linear_optimum(trainer)


def test_every_way_is_the_same_training(outside):
    fronts = []
    for parts in ways(outside).values():
        trainer = make_trainer(*parts, steps=5)
        trainer.train()
        fronts.append(trainer.front(5).values)
    np.testing.assert_array_equal(fronts[0], fronts[1])
    np.testing.assert_array_equal(fronts[0], fronts[2])


@pytest.mark.parametrize("way", ["instance", "name"])
def test_an_objective_on_data_rows_trains(outside, way):
    kind = outside["outside_row_objective"].Distances
    rows = [{"targets": torch.tensor([0.0, 1.0])}] * 12 + [{"targets": torch.tensor([torch.nan, 1.0])}] * 4
    objective = kind() if way == "instance" else "outside-distances"
    trainer = make_trainer(objective, Linear(), train_data=rows, batch_size=32)
    assert type(trainer.objective) is kind
    trainer.train()
    assert_linear_optimum(trainer)


@pytest.mark.parametrize("way", ["instance", "name"])
def test_a_gradient_weighting_trains(outside, way):
    kind = outside["outside_weighting"].Constant
    weighting = kind() if way == "instance" else GRADIENT_WEIGHTINGS.make("outside-constant")
    trainer = make_trainer(outside["outside_problem"].Parabolas(), weighting)
    assert type(trainer.scalarizer) is kind
    trainer.train()
    assert_linear_optimum(trainer)


def test_each_is_found_under_its_name(outside):
    assert OBJECTIVES["outside-parabolas"] is outside["outside_problem"].Parabolas
    assert OBJECTIVES["outside-distances"] is outside["outside_row_objective"].Distances
    assert SCALARIZERS["outside-doubled"] is outside["outside_scalarizer"].Doubled
    assert SAMPLERS["outside-halves"] is outside["outside_sampler"].Halves
    assert GRADIENT_WEIGHTINGS["outside-constant"] is outside["outside_weighting"].Constant
