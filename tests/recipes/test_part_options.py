import pytest

from mopref.llm.engines import VLLM
from mopref.llm.rewards import token_reward
from mopref.recipes.mistakes import RecipeError
from mopref.recipes.part_options import checked_options, find_part, make_part, parameters_of
from mopref.recipes.recipe import PartSettings
from mopref.registry import OBJECTIVES, SAMPLERS, SCALARIZERS


def test_a_part_is_made_by_its_name_with_its_options():
    made = make_part(SCALARIZERS, PartSettings("augmented-tchebycheff", {"ideal": [0, 1], "rho": 1}), "scalarizer")
    assert made.ideal_point.tolist() == [0.0, 1.0]
    assert made.rho == 1.0


def test_what_the_recipe_gives_goes_with_the_options():
    made = make_part(SAMPLERS, PartSettings("dirichlet", {"alpha": 0.5}), "sampler", num_objectives=("a", "b"))
    assert made.names == ("a", "b")
    assert made.alpha.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("registry", "settings", "message"),
    [
        (
            SCALARIZERS,
            PartSettings("pbi", {"tetha": 1}),
            r"^part\.options\.tetha: there is no such option; did you mean part\.options\.theta\?$",
        ),
        (
            SCALARIZERS,
            PartSettings("linear", {"x": 1}),
            r"^part\.options\.x: there is no such option; there are none\.$",
        ),
        (
            SCALARIZERS,
            PartSettings("lineal"),
            r"^part\.name is 'lineal': there is no such scalarizer; did you mean linear\?$",
        ),
        (SCALARIZERS, PartSettings("pbi", {"theta": -1}), r"^part\.options\.theta is -1\.0: .+ must be ≥ 0\.$"),
        (SCALARIZERS, PartSettings("pbi", {"theta": "x"}), r"^part\.options\.theta is 'x': it must be a number\.$"),
        (
            SCALARIZERS,
            PartSettings("pbi", {"convention": "x"}),
            r"^part\.options\.convention is 'x': it must be 'importance' or 'ray'\.$",
        ),
        (
            SCALARIZERS,
            PartSettings("hypervolume"),
            r"^part\.options\.reference_point: this option is missing; it must be a list",
        ),
        (
            SAMPLERS,
            PartSettings("uniform", {"seed": 3}),
            r"^part\.options\.seed: the setting seed of the recipe says it, so leave it out\.$",
        ),
        (
            SAMPLERS,
            PartSettings("uniform", {"num_objectives": 3}),
            r"^part\.options\.num_objectives: another part of the recipe says it",
        ),
    ],
)
def test_options_that_cannot_be_are_named(registry, settings, message):
    given = {"num_objectives": 2} if registry is SAMPLERS else {}
    with pytest.raises(RecipeError, match=message):
        make_part(registry, settings, "part", {"seed": "seed"}, **given)


def test_an_option_that_is_a_part_is_made_by_its_name_and_options():
    key = "objective"
    said = {"rewards": "rewards", "tokenizer": "model"}
    options = {"algorithm": {"name": "ppo", "options": {"epochs": 3}}}
    made = checked_options(find_part(OBJECTIVES, "rlhf", key), options, key, said, {"rewards": {}, "tokenizer": None})
    assert made["algorithm"].epochs == 3
    options = {"algorithm": {"name": "ppo", "options": {"epochs": 0}}}
    with pytest.raises(RecipeError, match=r"^objective\.algorithm\.options\.epochs is 0: it must be at least 1\.$"):
        checked_options(find_part(OBJECTIVES, "rlhf", key), options, key, said, {"rewards": {}, "tokenizer": None})


def test_an_option_that_is_a_record_of_settings_is_one():
    options = checked_options(
        OBJECTIVES["rlhf"], {"sampling": {"max_new_tokens": 3}}, "objective", {"rewards": "rewards"}, {}
    )
    assert options["sampling"].max_new_tokens == 3


def test_parameters_are_those_of_the_class():
    assert list(parameters_of(SCALARIZERS["tchebycheff"])) == ["ideal", "margin"]


def test_a_scalarizer_within_another_is_made_by_its_name_or_with_options():
    for inner in ({"name": "tchebycheff", "options": {"ideal": [0, 0]}}, "linear"):
        made = make_part(SCALARIZERS, PartSettings("normalized", {"scalarizer": inner, "nadir": [2, 3]}), "scalarizer")
        assert made.nadir_point.tolist() == [2.0, 3.0]
        assert type(made.scalarizer) is SCALARIZERS[inner if isinstance(inner, str) else inner["name"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"^part\.options\.scalarizer: this option is missing; it must be the name of a scalarizer, or a mapping",
        ),
        ({"scalarizer": "lineal"}, r"^part\.options\.scalarizer\.name is 'lineal': .+ did you mean linear\?$"),
        ({"scalarizer": "epo"}, r"^part\.options\.scalarizer\.name is 'epo': there is no such scalarizer"),
        (
            {"scalarizer": {"name": "pbi", "options": {"tetha": 1}}},
            r"^part\.options\.scalarizer\.options\.tetha: .+ did you mean part\.options\.scalarizer\.options\.theta\?$",
        ),
        ({"scalarizer": "linear", "window": 0}, r"^part\.options\.window is 0: at least one row"),
    ],
)
def test_what_is_wrong_with_an_inner_scalarizer_is_named(options, message):
    with pytest.raises(RecipeError, match=message):
        make_part(SCALARIZERS, PartSettings("normalized", options), "part")


def test_an_engine_is_a_part_of_an_objectives_options():
    rewards = {"a": token_reward(lambda prompts, responses: [0.0] * len(responses))}
    options = {"engine": {"name": "vllm", "options": {"url": "http://127.0.0.1:9", "importance_limit": 3}}}
    options["sampling"] = {"stop_token_ids": []}
    made = make_part(OBJECTIVES, PartSettings("rlhf", options), "objective", rewards=rewards)
    assert isinstance(made.settings.engine, VLLM)
    assert made.settings.engine.importance_limit == 3.0
    options["engine"]["options"]["url"] = "file:///etc/passwd"
    with pytest.raises(RecipeError, match=r"^objective\.options\.engine\.options\.url is 'file:///etc/passwd'"):
        make_part(OBJECTIVES, PartSettings("rlhf", options), "objective", rewards=rewards)
    options["engine"] = "sglang"
    with pytest.raises(RecipeError, match=r"^objective\.options\.engine\.name is 'sglang': there is no such engine"):
        make_part(OBJECTIVES, PartSettings("rlhf", options), "objective", rewards=rewards)
