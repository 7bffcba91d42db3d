from pathlib import Path

import pytest
import yaml
from _tiny_methods import method_tree

from mopref.baselines import METHODS
from mopref.recipes import ComparisonSettings, RecipeError, load_method_recipe, load_recipe
from mopref.recipes.method_plan import fingerprint_of, fixed_settings, options_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "recipes"


@pytest.fixture
def load(tmp_path):
    def load(*flags, **sections):
        tree = method_tree(tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "out")
        for key, section in sections.items():
            tree[key] = {**tree.get(key, {}), **section} if isinstance(section, dict) else section
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(tree))
        return load_method_recipe(path, flags)

    return load


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"methods": ["ours", "soup"]}, r"comparison.methods hold 'soup', which is none: did you mean"),
        ({"methods": ["dps"]}, r"comparison.methods are \['dps'\], without 'ours'"),
        ({"methods": ["ours", "ours"]}, r"comparison.methods are .*each once"),
        ({"seeds": []}, r"comparison.seeds are \[\]: give one at least"),
        ({"seeds": [-1]}, r"comparison.seeds are \[-1\]"),
        ({"resamples": 1}, "comparison.resamples is 1"),
        ({"bone_beta": 0.5}, "comparison.bone_beta.*beta is 0.5"),
        ({"modpo_objective": "helpfull"}, "comparison.modpo_objective is 'helpfull': did you mean helpful"),
        ({"metods": ["ours"]}, "comparison.metods: there is no such setting; did you mean comparison.methods"),
    ],
)
def test_a_wrong_section_is_refused_by_its_key(load, section, message):
    with pytest.raises(RecipeError, match=message):
        load(comparison=section)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"evaluation": {"reference_point": None}}, "evaluation.reference_point is null"),
        ({"evaluation": {"interval_level": None}}, "evaluation.interval_level is null"),
        ({"evaluation": {"prompts": ["red cat"]}}, "evaluation.prompts is given, and a comparison does not heed it"),
        ({"training": {"checkpoint_every": 5}}, "training.checkpoint_every is given"),
        ({"training": {"trackers": ["tensorboard"]}}, "training.trackers is given"),
        ({"monitoring": {"evaluation_every": 5}}, "monitoring.evaluation_every is given"),
        (
            {"objective": "sft", "data": {"loader": "responses"}},
            "objective.name is 'sft', which learns from responses",
        ),
        ({"objective": {"name": "simpo", "options": {}}}, "comparison.methods: .*MODPO's margin is defined for DPO"),
        ({"objective": {"name": "dpo", "options": {"loss": "ipo"}}}, "MODPO's margin is defined for DPO"),
    ],
)
def test_what_a_comparison_does_not_heed_is_refused(load, sections, message):
    with pytest.raises(RecipeError, match=message):
        load(**sections)


def test_another_objective_goes_without_modpo(load):
    recipe = load(objective={"name": "simpo", "options": {}}, comparison={"methods": ["ours", "dps"]})
    assert recipe.comparison.methods == ("ours", "dps")


def test_a_single_run_refuses_the_section_and_says_what_reads_it(load, tmp_path):
    load()
    with pytest.raises(RecipeError, match=r"comparison: this section is of methods that `mopref compare` trains"):
        load_recipe(tmp_path / "recipe.yaml")


def test_flags_count_in_place_of_the_file(load):
    recipe = load("--comparison.seeds", "[3, 4]", "--training.steps", "7", "--comparison.methods", "[ours, mod]")
    assert (recipe.comparison.seeds, recipe.training.steps) == ((3, 4), 7)
    assert recipe.comparison.methods == ("ours", "mod")
    with pytest.raises(RecipeError, match=r"--comparison.sedes: .*did you mean --comparison.seeds"):
        load("--comparison.sedes", "[3]")


def test_the_fingerprint_is_of_what_decides_on_figures(load):
    first = load()
    same = load(comparison={"seeds": [5], "methods": ["ours"], "resamples": 7}, training={"progress": True}, output="x")
    assert fingerprint_of(first, "records") == fingerprint_of(same, "records")
    assert fingerprint_of(first, "records") != fingerprint_of(first, "other records")
    for other in (load(training={"steps": 4}), load(seed=1), load(comparison={"single_learning_rate": 0.1})):
        assert fingerprint_of(other, "records") != fingerprint_of(first, "records")
        assert fixed_settings(other) != fixed_settings(first)


def test_data_are_known_by_what_they_hold_and_not_by_where_they_lie(load, tmp_path):
    recipes = [
        load(data={"source": source, "test_fraction": None, "test_source": source})
        for source in (str(tmp_path / "a.jsonl"), str(tmp_path / "b" / "c.jsonl"), "hub/id")
    ]
    first, moved, other = ((fingerprint_of(recipe, "records"), fixed_settings(recipe)) for recipe in recipes)
    assert first == moved
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_models_are_known_by_what_they_hold_and_not_by_where_they_lie(load, tmp_path):
    """Weights and tokens are in the content that a fingerprint is made with."""
    recipes = [load(model={"name": name}) for name in (str(tmp_path / "a"), str(tmp_path / "b" / "c"), "hub/id")]
    first, moved, other = ((fingerprint_of(recipe, "content"), fixed_settings(recipe)) for recipe in recipes)
    assert first == moved
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_a_column_of_the_table_is_no_objective(load):
    with pytest.raises(RecipeError, match="objectives holds 'seed': compared methods are told with a column"):
        load(objectives=["seed", "harmless"])


def test_the_options_of_a_method_are_named():
    assert options_of("activation") == ["comparison.activation_block", "comparison.activation_strength"]
    assert options_of("ours") == []


@pytest.mark.parametrize(
    ("option", "method"),
    [
        ({"bone_beta": 0.8}, "bone-soup"),
        ({"modpo_objective": "harmless"}, "modpo"),
        ({"activation_block": 0}, "activation"),
        ({"activation_strength": 2.0}, "activation"),
    ],
)
def test_an_option_of_one_method_binds_that_one_alone(load, option, method):
    first, other = load(), load(comparison=option)
    assert fixed_settings(first) == fixed_settings(other)
    for name in (*METHODS, None):
        is_same = fingerprint_of(first, "records", name) == fingerprint_of(other, "records", name)
        assert is_same == (name != method)


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_without_a_size_is_refused(load, strength):
    with pytest.raises(ValueError, match=f"activation_strength is {strength}: it must be finite"):
        ComparisonSettings(activation_strength=strength)
    with pytest.raises(RecipeError, match=r"comparison\.activation_strength is .*(finite|a number)"):
        load("--comparison.activation_strength", f".{strength}")


def test_defaults_are_all_methods_and_three_seeds():
    settings = ComparisonSettings()
    assert len(settings.methods) == 13
    assert settings.seeds == (0, 1, 2)


@pytest.mark.parametrize("name", ["compare_demo.yaml", "compare_pku_saferlhf.yaml"])
def test_the_examples_are_whole(name, monkeypatch):
    monkeypatch.setattr("mopref.recipes.parts.checked_device", lambda name: name)
    recipe = load_method_recipe(EXAMPLES / name)
    assert recipe.objectives == ("helpful", "harmless")
    assert recipe.evaluation.points == 5
    assert len(recipe.comparison.seeds) >= 3
