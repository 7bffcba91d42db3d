import pytest
from _tiny_runs import pair_records

from mopref.llm.data import tokenize_prompts, tokenize_records, tokenize_responses
from mopref.recipes.recipe import DataSettings
from mopref.recipes.rows import KINDS, LOADER_RECORDS, precomputed, summary, tokenized, validated
from mopref.registry import OBJECTIVES

NAMES = ("helpful", "harmless")


@pytest.fixture(scope="module")
def tokenizer(tiny):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny / "model")


def responses() -> list[dict]:
    return [{"prompt": "red cat", "response": "dog", "dimension": name} for name in NAMES]


def test_every_objective_here_is_registered_and_has_a_loader():
    assert KINDS.keys() <= set(OBJECTIVES)
    assert {kind.records for kind in KINDS.values()} == {"pairs", *LOADER_RECORDS.values()}


def test_rows_are_those_of_the_library(tokenizer):
    data = DataSettings(max_prompt_length=20, max_response_length=3, on_long_prompt="drop")
    limits = {"max_prompt_length": 20, "max_response_length": 3, "on_long_prompt": "drop"}
    pairs = pair_records(6)
    with pytest.warns(UserWarning, match="cut"):
        assert tokenized(KINDS["dpo"], tokenizer, pairs, NAMES, data) == tokenize_records(
            tokenizer, pairs, NAMES, **limits
        )
    rows = tokenized(KINDS["sft"], tokenizer, responses(), NAMES, data)
    assert rows == tokenize_responses(tokenizer, responses(), NAMES, **limits)
    rows = tokenized(KINDS["rlhf"], tokenizer, pairs, NAMES, data)
    assert rows == tokenize_prompts(tokenizer, [pair["prompt"] for pair in pairs], 20, "drop")


def test_limits_are_the_settings(tokenizer):
    with pytest.raises(ValueError, match="max_prompt_length is 2"):
        tokenized(KINDS["dpo"], tokenizer, pair_records(2), NAMES, DataSettings(max_prompt_length=2))


def test_records_are_checked_by_their_kind():
    with pytest.raises(ValueError, match="row 1"):
        validated(KINDS["dpo"], [pair_records(1)[0], {**pair_records(1)[0], "helpful": 3}], NAMES)
    with pytest.raises(ValueError, match="row 0"):
        validated(KINDS["sft"], [{"prompt": "red", "response": "x", "dimension": "rude"}], NAMES)


def test_what_is_the_same_at_every_step_is_computed_where_it_can_be():
    class Plain:
        pass

    class Thorough:
        def precompute(self, *arguments, **options):
            return arguments, options

    assert precomputed(KINDS["dpo"], Plain(), "model", ["row"], None) == ["row"]
    arguments, options = precomputed(KINDS["dpo"], Thorough(), "model", ["row"], "bf16")
    assert arguments == ("model", ["row"])
    assert options == {"mixed_precision": "bf16", "frozen_layers": "auto"}


def test_a_summary_counts_records_prompts_and_labels():
    pairs = pair_records(8)
    prompts = len({pair["prompt"] for pair in pairs})
    expected = f"8 pairs on {prompts} prompts; labelled on all objectives 6, with opposite labels 6"
    assert summary(KINDS["dpo"], pairs, NAMES) == expected
    assert summary(KINDS["sft"], responses(), NAMES) == "2 responses on 1 prompts"
