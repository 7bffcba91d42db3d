"""Parts defined here, outside the package, train by instance, by class and by registered name."""

import numpy as np
import pytest
import torch

from mopref import ParetoSetModel, ParetoTrainer, PreferenceSampler, Scalarizer, TrainerConfig, UniformSampler
from mopref.objectives import Problem
from mopref.registry import OBJECTIVES, SAMPLERS, SCALARIZERS, Registry
from mopref.scalarizers import Linear, Tchebycheff


@OBJECTIVES.register("test-parabolas")
class Parabolas(Problem):
    """f_i = (x − i)²: the linear optimum is x = λ_2."""

    def __init__(self):
        super().__init__(num_variables=1, num_objectives=2, bounds=(-2.0, 2.0))

    def evaluate(self, x):
        return torch.cat([x**2, (x - 1) ** 2], dim=-1)


@SCALARIZERS.register("test-doubled")
class Doubled(Scalarizer):
    """Twice the weighted sum: the same optimum as Linear."""

    def scalarize(self, losses, preferences):
        return 2 * (preferences * losses).sum(dim=-1)


@SAMPLERS.register("test-halves")
class Halves(PreferenceSampler):
    """λ_1 in {0, ½, 1}; counts what it is shown."""

    seen = 0

    def draw(self, n, generator):
        first = generator.integers(3, size=n) / 2
        return np.stack([first, 1 - first], axis=1)

    def observe(self, preferences, losses, scalarizer):
        assert preferences.shape == losses.shape == (8, 2)
        assert not losses.requires_grad
        assert isinstance(scalarizer, Doubled)
        self.seen += 1


WAYS = {
    "instance": (Parabolas(), Doubled(), Halves(2)),
    "class": (Parabolas, Doubled, Halves),
    "name": ("test-parabolas", "test-doubled", "test-halves"),
}


@pytest.mark.parametrize("way", WAYS)
def test_parts_from_outside_the_package_train(way):
    objective, scalarizer, sampler = WAYS[way]
    config = TrainerConfig(steps=150, preferences_per_step=8, learning_rate=5e-3, cpu=True, progress=False)
    model = ParetoSetModel(2, 1, bounds=(-2.0, 2.0))
    trainer = ParetoTrainer(model, objective, scalarizer, sampler, config=config)
    assert [type(part) for part in (trainer.objective, trainer.scalarizer, trainer.sampler)] == [
        Parabolas,
        Doubled,
        Halves,
    ]
    trainer.train()
    assert trainer.sampler.seen == 150
    with torch.no_grad():
        x = model(torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]))
    torch.testing.assert_close(x, torch.tensor([[1.0], [0.5], [0.0]]), rtol=0, atol=0.02)


def test_every_way_is_the_same_training():
    fronts = []
    for objective, scalarizer, sampler in WAYS.values():
        config = TrainerConfig(steps=5, preferences_per_step=8, cpu=True, progress=False)
        trainer = ParetoTrainer(ParetoSetModel(2, 1, (-2.0, 2.0)), objective, scalarizer, sampler, config=config)
        trainer.train()
        fronts.append(trainer.front(5).values)
    np.testing.assert_array_equal(fronts[0], fronts[1])
    np.testing.assert_array_equal(fronts[0], fronts[2])


@pytest.mark.parametrize("registry", [OBJECTIVES, SAMPLERS, SCALARIZERS], ids=lambda registry: registry.kind)
def test_every_built_in_name_stands_for_a_class_of_its_kind(registry):
    assert len(registry) >= 3
    for name, part in registry.items():
        assert issubclass(part, registry.interface), name
        assert registry[name] is part


def test_a_name_is_made_with_options():
    made = SCALARIZERS.make("tchebycheff", ideal=[0.0, 1.0])
    assert isinstance(made, Tchebycheff)
    assert made.ideal_point.tolist() == [0.0, 1.0]
    assert SAMPLERS.make(UniformSampler, num_objectives=3).num_objectives == 3


def test_errors_name_what_was_given_and_what_there_is():
    with pytest.raises(ValueError, match="unknown scalarizer 'lineal': choose one of linear, tchebycheff"):
        SCALARIZERS.make("lineal")
    with pytest.raises(TypeError, match="is no scalarizer: give an instance or a class derived from Scalarizer"):
        SCALARIZERS.make(UniformSampler)
    with pytest.raises(TypeError, match="3 is no sampler"):
        SAMPLERS.make(3)
    registry = Registry("scalarizer", Scalarizer, {"linear": "mopref.scalarizers:Linear"})
    with pytest.raises(ValueError, match="'linear' stands for Linear already"):
        registry.register("linear")(Doubled)
    with pytest.raises(TypeError, match="derive it from Scalarizer"):
        registry.register("mine")(UniformSampler)
    assert list(registry) == ["linear"]
    # The same class again is no conflict: a module may be imported twice.
    assert registry.register("linear")(Linear) is Linear


def test_built_in_classes_are_imported_when_they_are_asked_for():
    registry = Registry("scalarizer", Scalarizer, {"broken": "mopref.no_such_module:Nothing"})
    assert "broken" in registry
    assert list(registry) == ["broken"]
    with pytest.raises(ModuleNotFoundError):
        registry["broken"]
