import pytest
import torch

from mopref.llm.rewards import Conciseness
from mopref.llm.rewards.embedder import Embedder
from mopref.recipes import PartSettings, Recipe, RecipeError, reward_parts
from mopref.recipes.reward_parts import check_rewards, make_rewards

CONCISE = PartSettings("conciseness", {"target_length": 5})


def recipe(**rewards: PartSettings) -> Recipe:
    return Recipe(("a", "b"), objective=PartSettings("rlhf"), rewards=rewards)


def test_rewards_come_in_the_order_of_the_objectives():
    made = make_rewards(recipe(b=CONCISE, a=PartSettings("conciseness", {"target_length": 9, "maximum": 2})))
    assert list(made) == ["a", "b"]
    assert isinstance(made["a"], Conciseness)
    assert (made["a"].target_length, made["a"].maximum, made["b"].target_length) == (9, 2, 5)


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ({"a": CONCISE}, r"^rewards\.b: this reward is missing; there are .*conciseness"),
        ({"a": CONCISE, "b": CONCISE, "bb": CONCISE}, r"^rewards\.bb: there is no such objective"),
        (
            {"a": CONCISE, "b": PartSettings("concise")},
            r"^rewards\.b\.name is 'concise': .+ did you mean conciseness\?",
        ),
        (
            {"a": CONCISE, "b": PartSettings("conciseness")},
            r"^rewards\.b\.options\.target_length: this option is missing",
        ),
        (
            {"a": CONCISE, "b": PartSettings("classifier", {"model": "x", "sign": 1, "lable": "y"})},
            r"^rewards\.b\.options\.lable: there is no such option; did you mean rewards\.b\.options\.label\?",
        ),
    ],
)
def test_rewards_that_cannot_be_are_named(rewards, message):
    with pytest.raises(RecipeError, match=message):
        check_rewards(recipe(**rewards))


def with_pull(*names: str, pull: str, **rewards: PartSettings) -> Recipe:
    return Recipe(names, objective=PartSettings("rlhf", {"pull": pull}), rewards=rewards)


def test_the_pull_has_no_reward():
    made = with_pull("a", "b", "close", pull="close", b=CONCISE, a=CONCISE)
    check_rewards(made)
    assert list(make_rewards(made)) == ["a", "b"]
    assert (made.pull, made.without_pull) == ("close", ("a", "b"))
    plain = recipe(a=CONCISE, b=CONCISE)
    assert (plain.pull, plain.without_pull) == (None, ("a", "b"))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            with_pull("a", "close", pull="clos", a=CONCISE, close=CONCISE),
            r"^objective\.options\.pull is 'clos': there is no such objective; did you mean close\?",
        ),
        (
            with_pull("close", "a", pull="close", a=CONCISE),
            r"^objective\.options\.pull is 'close', and the last objective is 'a': the pull must be the last",
        ),
        (
            with_pull("a", "close", pull="close", a=CONCISE, close=CONCISE),
            r"^rewards\.close: this objective is the pull \(objective\.options\.pull\), which has none; leave it out",
        ),
        (with_pull("a", "b", "close", pull="close", a=CONCISE), r"^rewards\.b: this reward is missing"),
    ],
    ids=["unknown", "not the last", "with a reward", "another missing"],
)
def test_a_pull_that_cannot_be_is_named(made, message):
    with pytest.raises(RecipeError, match=message):
        check_rewards(made)


def test_what_a_reward_refuses_is_named():
    with pytest.raises(RecipeError, match=r"^rewards\.a\.options\.target_length is -1\.0: it must be a finite number"):
        make_rewards(recipe(a=PartSettings("conciseness", {"target_length": -1}), b=CONCISE))


class NamedEmbedder(Embedder):
    """Stands for a model that is loaded by its name."""

    def __init__(self, name):
        self.name = name

    def __call__(self, texts):
        raise AssertionError("no text is embedded here")


def test_models_are_loaded_by_name(monkeypatch, tmp_path, make_llama, tiny):
    from transformers import LlamaForSequenceClassification

    config = make_llama(num_hidden_layers=1, vocab_size=17).config
    config.num_labels = 1
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((tiny / "model" / name).read_text())
    monkeypatch.setitem(reward_parts._LOADED, "embedder", NamedEmbedder)
    made = make_rewards(
        recipe(
            a=PartSettings("classifier", {"model": str(tmp_path), "sign": 1}),
            b=PartSettings("relevance", {"embedder": "demo"}),
        )
    )
    assert made["a"](["red"], ["cat"]).shape == (1,)
    assert made["b"].embedder.name == "demo"
