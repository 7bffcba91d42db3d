"""A recipe says every setting of what it is made of, with the same default."""

from dataclasses import MISSING, fields

import pytest
from docstring_parser import parse

from mopref import SVDLoRAConfig, TrainerConfig
from mopref.recipes import recipe as sections
from mopref.recipes.recipe import (
    AdapterSettings,
    DataSettings,
    EvaluationSettings,
    Recipe,
    TrainingSettings,
)

# Said once for the whole recipe, or by the run's folder and device.
ELSEWHERE = {
    SVDLoRAConfig: {"objectives", "seed"},
    TrainerConfig: {"seed", "output_dir", "cpu"},
}
# None stands for the default until it is known which of two settings counts.
OTHER_DEFAULTS = {"steps"}


@pytest.mark.parametrize(("config", "section"), [(SVDLoRAConfig, AdapterSettings), (TrainerConfig, TrainingSettings)])
def test_every_setting_of_a_config_is_in_its_section_with_the_same_default(config, section):
    own = {setting.name: setting for setting in fields(section)}
    for setting in fields(config):
        if setting.name in ELSEWHERE[config]:
            assert setting.name not in own
        elif setting.name not in OTHER_DEFAULTS:
            assert own[setting.name].default == setting.default, setting.name
    assert set(own) - {setting.name for setting in fields(config)} <= {"cache_references", "epochs"}


def test_steps_have_the_trainers_default_once_the_recipe_is_complete():
    assert Recipe(("a",)).completed().training.steps == TrainerConfig().steps


@pytest.mark.parametrize("name", sections.__all__)
def test_every_setting_has_a_help_text(name):
    section = getattr(sections, name)
    texts = {entry.arg_name: entry.description for entry in parse(section.__doc__).params}
    assert list(texts) == [setting.name for setting in fields(section)]
    assert all(text.strip() for text in texts.values())


def test_only_the_objectives_have_no_default():
    required = [s.name for s in fields(Recipe) if s.default is MISSING and s.default_factory is MISSING]
    assert required == ["objectives"]


def test_a_completed_recipe_says_what_counts_and_stays_as_it_is():
    recipe = Recipe(("a", "b", "c")).completed()
    assert (recipe.data.test_fraction, recipe.training.steps, recipe.evaluation.points) == (0.2, 1000, 6)
    assert recipe.completed() == recipe
    assert Recipe(("a", "b")).completed().evaluation.points == 5
    assert Recipe(("a",)).completed().evaluation.points == 1


def test_what_is_given_in_place_of_a_default_leaves_it_out():
    recipe = Recipe(
        ("a", "b"),
        data=DataSettings(test_source="x"),
        training=TrainingSettings(epochs=2),
        evaluation=EvaluationSettings(preferences=[{"a": 1.0, "b": 0.0}]),
    ).completed()
    assert recipe.data.test_fraction is None
    assert recipe.training.steps is None
    assert recipe.evaluation.points is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingSettings(steps=3, epochs=2), "steps is 3, and epochs is 2: each says how long"),
        (lambda: TrainingSettings(epochs=0), "epochs is 0: it is a number of passes"),
        (lambda: DataSettings(test_fraction=0.5, test_source="x"), "test_fraction is 0.5: test_source"),
        (lambda: DataSettings(test_fraction=0.5, test_options={"split": "test"}), "test_fraction is 0.5"),
        (lambda: EvaluationSettings(points=3, preferences=[{"a": 1.0}]), "points is 3, and preferences"),
        (lambda: EvaluationSettings(batch_size=0), "batch_size is 0: it is a number of things"),
    ],
)
def test_two_settings_of_one_thing_and_numbers_below_one_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
