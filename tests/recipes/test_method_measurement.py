"""Each training has parts of its own; what methods are measured by is the same one row after another."""

import numpy as np
import pytest
import torch
import yaml
from _tiny_methods import method_tree, save_model_with_digits, write_saferlhf

from mopref.llm.evaluation import prompt_units
from mopref.recipes import load_method_recipe
from mopref.recipes.method_measurement import held_out_rows, method_options, method_trainings, preference_scores
from mopref.recipes.training import prepare


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, make_llama):
    folder = tmp_path_factory.mktemp("measured")
    model = save_model_with_digits(folder / "model", make_llama)
    tree = method_tree(model, write_saferlhf(folder / "rows.jsonl"), folder / "output")
    tree["comparison"] = {**tree["comparison"], "single_learning_rate": 0.125, "modpo_objective": "harmless"}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_method_recipe(path).completed()


@pytest.fixture(scope="module")
def ready(recipe):
    return prepare(recipe)


def test_scores_are_those_of_one_row_and_one_preference_at_a_time(recipe, ready):
    for number, layer in enumerate(ready.model.adapters.values()):
        torch.nn.init.normal_(layer.U, std=0.1, generator=torch.Generator().manual_seed(number))
    scores, at = preference_scores(ready, recipe, ready.model), ready.parts.preferences
    assert scores.shape == (len(at), len(ready.test_rows), 2)
    assert scores[0].allclose(scores[-1]) is False
    for place in (0, len(ready.test_rows) - 1):
        for number, preference in enumerate(at):
            alone = ready.objective.all_scores(ready.model, [ready.test_rows[place]], preference.float()[None], 1)
            torch.testing.assert_close(scores[number, place], alone[0, 0], rtol=1e-4, atol=1e-5)


def test_each_training_has_points_draws_and_a_seed_of_its_own(recipe, ready):
    first, second = (method_trainings(ready, recipe, seed, "none").setup for seed in (3, 4))
    assert first.make_scalarizer() is not first.make_scalarizer() is not ready.parts.scalarizer
    # A draw moves none of the others.
    first.make_sampler().sample(5)
    assert first.make_sampler().sample(3).equal(second.make_sampler().sample(3))
    assert [setup.adapter.seed for setup in (first, second)] == [3, 4]
    assert [setup.config.seed for setup in (first, second)] == [3, 4]
    assert first.single_learning_rate == 0.125
    assert first.make_model(first.adapter) is not first.make_model(first.adapter)


def test_options_are_the_recipes(recipe, ready):
    options = method_options(ready, recipe, None, seed=3)
    assert options.modpo_index == recipe.objectives.index("harmless") == 1
    assert options.seed == 3
    assert options.preferences.equal(ready.parts.preferences)


def test_held_out_rows_say_what_counts_and_under_which_point(recipe, ready):
    held_out = held_out_rows(recipe, ready.objective, ready.parts.preferences, ready.test_rows)
    labels = np.array([row["labels"] for row in ready.test_rows])
    assert held_out.labelled.tolist() == (labels >= 0).tolist()
    assert list(held_out.units) == prompt_units(ready.test_rows)
    assert held_out.reference_point.tolist() == list(recipe.evaluation.reference_point)
    assert held_out.preferences.dtype == np.float64
    assert held_out.names == recipe.objectives
