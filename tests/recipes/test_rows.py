from inspect import signature

import pytest
from _tiny_runs import answer_records, pair_records

from mopref.llm.data import (
    tokenize_prompts,
    tokenize_records,
    tokenize_responses,
    tokenize_unpaired,
    with_mismatches,
)
from mopref.llm.policy.reference_cache import ReferenceCache
from mopref.objectives import KTO
from mopref.recipes.recipe import DataSettings, TrainingSettings
from mopref.recipes.rows import (
    KINDS,
    LOADER_RECORDS,
    check_held_out,
    precomputed,
    summary,
    takes_records,
    tokenized,
    validated,
)
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
    # What takes rewards is asked for them, and nothing else is.
    for name, kind in KINDS.items():
        assert kind.takes_rewards == ("rewards" in signature(OBJECTIVES[name]).parameters)


def test_every_objective_on_data_is_here():
    on_data = {name for name, part in OBJECTIVES.items() if part.needs_data and part.__module__.startswith("mopref.")}
    assert on_data == KINDS.keys()


def test_prompts_are_also_those_of_pairs():
    assert takes_records(KINDS["online-dpo"], "hh-rlhf")
    assert takes_records(KINDS["online-dpo"], "prompts")
    assert not takes_records(KINDS["dpo"], "prompts")
    assert not takes_records(KINDS["kto"], "records")
    assert takes_records(KINDS["kto"], "unpaired-preferences")


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
    answers = answer_records(6)
    rows = tokenized(KINDS["kto"], tokenizer, answers, NAMES, DataSettings())
    assert rows == with_mismatches(tokenize_unpaired(tokenizer, answers, NAMES))
    rows = tokenized(KINDS["rlhf"], tokenizer, pairs, NAMES, data)
    assert rows == tokenize_prompts(tokenizer, [pair["prompt"] for pair in pairs], 20, "drop")


def test_limits_are_the_settings(tokenizer):
    with pytest.raises(ValueError, match="max_prompt_length is 2"):
        tokenized(KINDS["dpo"], tokenizer, pair_records(2), NAMES, DataSettings(max_prompt_length=2))


def test_records_are_checked_by_their_kind():
    with pytest.raises(ValueError, match="row 1"):
        validated(KINDS["dpo"], [pair_records(1)[0], {**pair_records(1)[0], "helpful": 3}], NAMES)
    with pytest.raises(ValueError, match="row 0"):
        validated(KINDS["kto"], [{**answer_records(1)[0], "harmless": 3}], NAMES)
    with pytest.raises(ValueError, match="row 0"):
        validated(KINDS["sft"], [{"prompt": "red", "response": "x", "dimension": "rude"}], NAMES)


def test_what_is_the_same_at_every_step_is_computed_where_it_can_be():
    class Plain:
        pass

    class Thorough:
        def precompute(self, *arguments, **options):
            return arguments, options

    assert precomputed(KINDS["dpo"], Plain(), "model", ["row"], TrainingSettings(), print) == ["row"]
    training = TrainingSettings(mixed_precision="bf16")
    arguments, options = precomputed(KINDS["dpo"], Thorough(), "model", ["row"], training, print)
    assert arguments == ("model", ["row"])
    assert options == {"mixed_precision": "bf16", "frozen_layers": "auto"}


def test_references_are_looked_for_on_the_disk_unless_that_is_off(monkeypatch, tmp_path):
    class Kept:
        found = None

        def precompute(self, model, rows, mixed_precision, frozen_layers, cache=False):
            if cache:
                cache.found, cache.place = self.found, tmp_path
            return [cache]

    told, objective = [], Kept()
    for found, line in ((False, "Kept in the cache: the reference of 2 rows"), (True, "Found in the cache: the")):
        objective.found = found
        (cache,) = precomputed(KINDS["dpo"], objective, "model", [1, 2], TrainingSettings(), told.append)
        assert isinstance(cache, ReferenceCache)
        assert told.pop().startswith(line)
    off = TrainingSettings(cache_references=False)
    assert precomputed(KINDS["dpo"], objective, "model", [1, 2], off, told.append) == [False]
    # Such as SimPO.
    objective.needs_reference = False
    assert precomputed(KINDS["dpo"], objective, "model", [1, 2], TrainingSettings(), told.append) == [False]
    assert not told


def test_a_summary_counts_records_prompts_and_labels():
    pairs = pair_records(8)
    prompts = len({pair["prompt"] for pair in pairs})
    expected = f"8 pairs on {prompts} prompts; labelled on all objectives 6, with opposite labels 6"
    assert summary(KINDS["dpo"], pairs, NAMES) == expected
    assert summary(KINDS["sft"], responses(), NAMES) == "2 responses on 1 prompts"
    answers = [{"prompt": "red", "response": "cat", "helpful": 1, "harmless": label} for label in (0, 1, -1)]
    expected = "3 unpaired answers on 1 prompts; labelled on all objectives 2, with opposite labels 1"
    assert summary(KINDS["kto"], answers, NAMES) == expected


def test_rows_that_no_front_can_be_measured_on_are_refused(tokenizer):
    rows = tokenized(KINDS["kto"], tokenizer, answer_records(6), NAMES, DataSettings())
    check_held_out(KTO(NAMES), rows)
    with pytest.raises(ValueError, match=r"there are 3 rows to evaluate on, and KTO needs 4"):
        check_held_out(KTO(NAMES), rows[:3])
    with pytest.raises(ValueError, match=r"none of the rows to evaluate on is labelled on 'helpful'"):
        check_held_out(KTO(NAMES), [{**row, "labels": [-1, 1]} for row in rows])
