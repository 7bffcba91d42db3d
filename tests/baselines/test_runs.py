import warnings
from dataclasses import replace

import pytest
import torch

from mopref.baselines import FixedSampler, Trainings
from mopref.baselines.plain_lora import plain_model
from mopref.baselines.runs import adapter_parameters, preference_label, trained_parameters
from mopref.conditioning import SVDLoRAConfig
from mopref.objectives import DPO

NAMES = ("helpful", "harmless")


def test_a_fixed_sampler_draws_one_preference():
    sampler = FixedSampler(NAMES, {"harmless": 0.75, "helpful": 0.25})
    assert sampler.sample(3).tolist() == [[0.25, 0.75]] * 3
    assert eval(repr(sampler)).preference == sampler.preference
    with pytest.raises(ValueError, match="2 preferences"):
        FixedSampler(2, [[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="sum"):
        FixedSampler(2, [1.0, 1.0])


def test_a_training_is_done_once_and_its_cost_is_counted(make_setup):
    made = []
    setup = make_setup()
    trainings = Trainings(setup)

    def make():
        made.append(setup.make_model(setup.adapter))
        return made[-1]

    first = trainings.trained("one", make_model=make)
    assert trainings.trained("one", make_model=make) is first
    assert len(made) == 1
    # A forward of the policy and one of the reference a step.
    assert (first.cost.steps, first.cost.forwards) == (2, 4)
    assert first.cost.trained_parameters == sum(p.numel() for p in made[0].parameters() if p.requires_grad)
    other = setup.make_model(setup.adapter)
    first.put_into(other)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), made[0].parameters(), strict=True))
    assert any(layer.U.any() for layer in other.adapters.values())


def test_what_was_trained_is_not_put_into_another_model(make_setup):
    setup = make_setup()
    trained = Trainings(setup).trained("one", make_model=lambda: setup.make_model(setup.adapter))
    other = setup.make_model(SVDLoRAConfig(NAMES, rank=3, preference_rank=1))
    with pytest.raises(ValueError, match="other layers or ranks"):
        trained.put_into(other)


def test_the_same_seed_trains_the_same_and_another_another(make_setup):
    def tensors(seed):
        setup = make_setup()
        setup = replace(setup, config=replace(setup.config, seed=seed))
        return Trainings(setup).trained("one", make_model=lambda: setup.make_model(setup.adapter)).tensors

    first, again, other = tensors(0), tensors(0), tensors(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_that_one_preference_gives_one_model_is_no_news(make_setup, monkeypatch):
    monkeypatch.setattr("mopref.training.run_warnings._FEWEST_STEPS", 1)
    setup = make_setup()

    def make():
        return plain_model(setup.make_model, setup.adapter)

    with pytest.warns(UserWarning, match="every preference gives the same model"):
        Trainings(setup).trained("many", make_model=make)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainings(setup).trained("one", make_model=make, at=[0.5, 0.5])


def test_names_of_the_objective_and_the_adapters_are_one(make_setup):
    with pytest.raises(ValueError, match="give the same"):
        make_setup(objective=DPO(("harmless", "helpful")))


def test_trained_parameters_of_ours_are_all(make_model):
    model = make_model(SVDLoRAConfig(NAMES, rank=2, preference_rank=1))
    own = [part for part in model.parameters() if part.requires_grad]
    assert trained_parameters(model) == sum(part.numel() for part in own)
    assert {id(part) for part in adapter_parameters(model).values()} == {id(part) for part in own}


def test_preferences_that_differ_have_other_labels():
    assert preference_label(NAMES, [1 / 3, 2 / 3]) != preference_label(NAMES, [0.3333, 0.6667])


def test_a_training_at_one_preference_has_its_own_rate_and_others_the_configs(make_setup):
    plain = make_setup()
    other = replace(plain, single_learning_rate=10 * plain.config.learning_rate)

    def tensors(setup, **how):
        return Trainings(setup).trained("one", make_model=lambda: setup.make_model(setup.adapter), **how).tensors

    def are_equal(first, second):
        return all(torch.equal(first[name], second[name]) for name in first)

    at = [1.0, 0.0]
    assert are_equal(tensors(plain), tensors(other))
    assert not are_equal(tensors(plain, at=at), tensors(other, at=at))
    given = tensors(plain, at=at, learning_rate=other.single_learning_rate)
    assert are_equal(given, tensors(other, at=at))
    # What a method sets itself counts.
    assert are_equal(tensors(plain, at=at), tensors(other, at=at, learning_rate=plain.config.learning_rate))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_of_one_preference_that_cannot_be_is_refused(rate, make_setup):
    with pytest.raises(ValueError, match="learning_rate"):
        replace(make_setup(), single_learning_rate=rate)
