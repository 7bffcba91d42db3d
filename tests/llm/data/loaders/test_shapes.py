"""Shapes of public data sets, and what is said of rows of another one."""

import pytest

from mopref.llm.data.loaders.shapes import SHAPES, missing_column, recognise_shape, shape_advice

TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
# The columns as they are published, with values of the right kinds.
PUBLISHED = {
    "preference records": {"prompt": "a", "response_0": "b", "response_1": "c", "helpful": 1},
    "PKU-SafeRLHF": {
        "prompt": "a",
        "response_0": "b",
        "response_1": "c",
        "is_response_0_safe": True,
        "better_response_id": 0,
        "safer_response_id": 1,
    },
    "pairs with a prompt": {
        "prompt": "a",
        "prompt_id": "7",
        "chosen": TURNS,
        "rejected": TURNS,
        "messages": TURNS,
        "score_chosen": 8.0,
        "score_rejected": 2.0,
    },
    "pairs of dialogues that share their beginning": {"chosen": "a", "rejected": "b"},
    "pairs with alpaca's instruction": {"instruction": "a", "input": "", "chosen": "b", "rejected": "c"},
    "pairs with ShareGPT's conversations": {"conversations": [], "chosen": {}, "rejected": {}},
    "pairs with messages": {"messages": TURNS[:1], "chosen": TURNS[1], "rejected": TURNS[1]},
    "lists of rated answers, as UltraFeedback": {
        "source": "flan",
        "instruction": "a",
        "models": ["m"],
        "completions": [{"response": "b", "annotations": {}}],
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    },
    "lists of rated answers": {"prompt": "a", "completions": ["b", "c"], "helpful": [1, 2]},
    "rated answers, one a row, as HelpSteer2": {
        "prompt": "a",
        "response": "b",
        "helpfulness": 3,
        "correctness": 4,
        "coherence": 4,
        "complexity": 2,
        "verbosity": 1,
    },
    "graded pairs, as HelpSteer3": {
        "domain": "stem",
        "language": "english",
        "context": TURNS[:1],
        "response1": "b",
        "response2": "c",
        "overall_preference": -2,
        "individual_preference": [],
    },
    "graded pairs, as HelpSteer2's preferences": {
        "split": "train",
        "prompt": "a",
        "response_1": "b",
        "response_2": "c",
        "preference_strength": 1,
    },
    "BeaverTails": {"prompt": "a", "response": "b", "category": {"privacy_violation": False}, "is_safe": True},
    "unpaired records": {"prompt": "a", "response": "b", "helpful": 1, "brief": -1},
    "unpaired preferences": {"prompt": "a", "completion": "b", "label": True},
    "unpaired preferences with alpaca's instruction": {"instruction": "a", "input": "", "output": "b", "kto_tag": True},
    "unpaired preferences in dialogues": {"conversations": TURNS, "kto_tag": False},
    "answers with a dimension": {"prompt": "a", "response": "b", "dimension": "brief"},
    "answers to prompts": {"prompt": "a", "completion": "b"},
    "answers to instructions": {"instruction": "a", "input": "", "output": "b"},
    "dialogues": {"messages": TURNS},
    "prompts": {"prompt": "a"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rows_are_recognised(name):
    row = PUBLISHED[name]
    resemblance = recognise_shape(row)
    assert resemblance.shape.name == name
    assert resemblance.is_exact
    assert recognise_shape(dict(reversed(row.items()))).shape.name == name, "the order of columns says nothing"
    assert row == PUBLISHED[name]


def test_every_shape_is_among_them():
    assert {shape.name for shape in SHAPES} == set(PUBLISHED)


@pytest.mark.parametrize(
    ("row", "name", "columns", "missing"),
    [
        (
            {"question": "a", "better": "b", "worse": "c"},
            "pairs with a prompt",
            {"prompt": "question", "chosen": "better", "rejected": "worse"},
            (),
        ),
        # Answers beside their prompt under another name are no dialogues that hold it.
        (
            {"system": "s", "question": "a", "chosen": "b", "rejected": "c"},
            "pairs with a prompt",
            {"prompt": "question"},
            (),
        ),
        ({"Question": "a", "chosen": "b", "rejected": "c"}, "pairs with a prompt", {"prompt": "Question"}, ()),
        ({"prompt": "a", "chosen": "b"}, "pairs with a prompt", {}, ("rejected",)),
        ({"prompt": "a", "answers": ["b"]}, "lists of rated answers", {"completions": "answers"}, ()),
        ({"question": "a", "answer": "b", "thumbs_up": True}, "unpaired preferences", None, ()),
    ],
)
def test_rows_that_are_nearly_of_a_shape(row, name, columns, missing):
    resemblance = recognise_shape(row)
    assert (resemblance.shape.name, resemblance.missing) == (name, missing)
    assert columns is None or resemblance.columns == columns
    assert not resemblance.is_exact


def test_calls_name_the_columns():
    assert recognise_shape({"question": "a", "chosen": "b", "rejected": "c"}).call == (
        "load_preference_pairs({'objective': source}, columns={'prompt': 'question'})"
    )
    assert recognise_shape({"prompt": "a", "chosen": "b"}).call.endswith("columns={'rejected': '…'})")
    assert recognise_shape(PUBLISHED["graded pairs, as HelpSteer3"]).call == (
        "load_graded_pairs(source, {'objective': 'overall_preference'})"
    )


def test_ratings_in_csv_files_are_texts():
    assert recognise_shape({"prompt": "a", "response": "b", "clear": "4"}).shape.name.startswith("rated answers")
    assert recognise_shape({"prompt": "3", "response": "4", "clear": "yes"}).shape.name == "answers to prompts"
    assert recognise_shape({"prompt": "a", "response": "b", "good": True}).shape.name == "unpaired preferences"


def test_rows_of_no_shape():
    for row in ({}, {"id": 3, "url": "x"}):
        assert recognise_shape(row) is None
    assert shape_advice({"id": 3}) == "the columns are 'id', like no shape that is known: map them by columns"


def test_messages_name_columns_and_no_texts():
    message = str(missing_column("rejected", {"prompt": "secret", "chosen": "secret"}))
    assert message == (
        "column 'rejected' is missing or blank; the columns are 'prompt', 'chosen', most like pairs with a prompt "
        "('rejected' is missing), read by load_preference_pairs({'objective': source}, columns={'rejected': '…'})."
    )
    assert missing_column("rejected", {}).reason == "column 'rejected' missing"


def test_what_holds_no_preference_is_read_by_no_loader():
    assert recognise_shape({"prompt": "a"}).call.startswith("tokenize_prompts (prompts alone hold no preference")
    assert recognise_shape({"messages": TURNS}).call.startswith("tokenize_responses (answers alone hold no preference")


@pytest.mark.parametrize("row", [None, "prompt", b"prompt", ["prompt"], 3])
def test_what_is_no_row_is_refused_by_name(row):
    with pytest.raises(TypeError, match=r"row is .*: give a dict"):
        recognise_shape(row)
