"""Pairs by a recipe's own model: written as a file that a training and a comparison of methods read."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from _tiny_methods import save_model_with_digits
from _tiny_runs import kind_sections

from mopref.llm.data import label_counts
from mopref.llm.pairs import on_policy_pairs
from mopref.llm.policy import Sampling
from mopref.llm.rewards import Brevity, Conciseness, RewardError
from mopref.recipes import EvaluationSettings, PartSettings, RecipeError, compare_methods, load_method_recipe, own_pairs
from mopref.recipes.models import adapted_model, load_tokenizer
from mopref.recipes.own_pairs import write_own_pairs
from mopref.recipes.parts import make_parts
from mopref.recipes.sources import load_records

pytestmark = pytest.mark.filterwarnings("ignore:.*rows made:UserWarning")


@pytest.fixture
def recipe(load, tmp_path):
    sections = kind_sections("online-dpo", tmp_path)
    sections["objective"] = {"name": "online-dpo", "options": {"sampling": {"max_new_tokens": 12}}}
    sections["rewards"] = {"helpful": {"name": "conciseness", "options": {"target_length": 1}}, "harmless": "brevity"}
    return load(**sections)


def test_the_file_holds_what_the_function_gives(recipe, tmp_path):
    target, lines = tmp_path / "new" / "pairs.jsonl", []
    counts = write_own_pairs(recipe, target, {"harmless": 3}, lines.append)
    prompts = list(dict.fromkeys(record["prompt"] for record in load_records(recipe)))
    assert lines == [f"Answering {len(prompts)} prompts twice, with 12 tokens at most …"]
    model = adapted_model(recipe.model, make_parts(recipe).adapter, torch.device("cpu"))
    rewards = {"helpful": Conciseness(1), "harmless": Brevity()}
    tokenizer = load_tokenizer(recipe.model)
    expected = on_policy_pairs(model, tokenizer, prompts, rewards, Sampling(max_new_tokens=12), gaps={"harmless": 3})
    assert [json.loads(line) for line in target.read_text().splitlines()] == expected
    assert counts == label_counts(expected, recipe.objectives)


def test_what_cannot_be_is_refused_before_anything_is_loaded(recipe, tmp_path, monkeypatch):
    def loads(*arguments):
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(own_pairs, "adapted_model", loads)
    (tmp_path / "there.jsonl").write_text("mine")
    on_pairs = replace(recipe, objective=PartSettings("dpo"), rewards={})
    penalty = replace(recipe, objective=PartSettings("online-dpo", {"truncation_penalty": 1}))
    names, strength = (*recipe.objectives, "close"), PartSettings("rlhf", {"pull": "close"})
    pull = replace(recipe, objectives=names, objective=strength, evaluation=EvaluationSettings())
    target = tmp_path / "pairs.jsonl"
    for changed, path, gaps, message in (
        (recipe, tmp_path / "pairs.csv", {}, r"--output is '.*pairs\.csv': .* ends in \.jsonl"),
        (recipe, tmp_path / "there.jsonl", {}, r"--output is '.*there\.jsonl', which is there already"),
        (recipe, tmp_path / "there.jsonl" / "pairs.jsonl", {}, "nothing can be written into"),
        (recipe, target, {"helpfull": 1}, r"gaps: gaps hold 'helpfull', and there is no such reward"),
        (on_pairs, target, {}, r"objective\.name is 'dpo', which has no rewards"),
        (pull, target, {}, r"objective\.options\.pull: pairs are sampled by the model itself"),
        (penalty, target, {}, r"objective\.options\.truncation_penalty: pairs are sampled by the model itself"),
    ):
        with pytest.raises(RecipeError, match=message):
            write_own_pairs(changed, path, gaps)
    assert (tmp_path / "there.jsonl").read_text() == "mine"
    assert not target.exists()


def test_a_reward_that_fails_leaves_no_file(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(Brevity, "__call__", lambda self, prompts, responses: [float("nan")] * len(responses))
    failing = replace(recipe, rewards={**recipe.rewards, "helpful": PartSettings("brevity")})
    with pytest.raises(RewardError, match="reward 'helpful' returned nan"):
        write_own_pairs(failing, tmp_path / "pairs.jsonl", {})
    assert not list(tmp_path.glob("*pairs.jsonl*"))


def test_from_prompts_to_a_comparison_of_methods(recipe, load, make_llama, tmp_path):
    """Sampled, trained on and judged by a reward that made no label."""
    model = save_model_with_digits(tmp_path / "digits", make_llama)
    counts = write_own_pairs(
        replace(recipe, model=replace(recipe.model, name=str(model))), tmp_path / "pairs.jsonl", {}
    )
    assert counts.labelled["helpful"] > 10
    tree = {
        "objectives": ["helpful", "harmless"],
        "data": {"source": str(tmp_path / "pairs.jsonl"), "test_fraction": 0.3, "max_response_length": 12},
        "model": {"name": str(model), "device": "cpu"},
        "adapter": {"rank": 2, "preference_rank": 1},
        "training": {"steps": 2, "batch_size": 4, "preferences_per_step": 2, "progress": False},
        "evaluation": {
            "points": 3,
            "reference_point": [2, 2],
            "sampled_prompts": 2,
            "max_new_tokens": 12,
            "judges": {"helpful": "brevity"},
        },
        "comparison": {"methods": ["ours", "mod"], "seeds": [0], "resamples": 5},
        "output": str(tmp_path / "compared"),
    }
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump(tree))
    comparison = compare_methods(load_method_recipe(path))
    points = json.loads((comparison.folder / "methods.json").read_text())["methods"][0]["seeds"][0]["points"]
    assert all(0 <= point["win_rate_helpful"] <= 1 for point in points)
