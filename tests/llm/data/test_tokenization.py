"""Rows of token ids from both kinds of record, from prompts and from plain texts."""

import copy

import pytest
from hypothesis import given, strategies as st
from tokenizers import normalizers

from mopref.llm.data.chat_template import PairTokenizer
from mopref.llm.data.tokenization import (
    LengthLimits,
    plain_text_rows,
    tokenize_pair,
    tokenize_prompts,
    tokenize_records,
    tokenize_responses,
)

OBJECTIVES = ("helpful", "harmless")
STYLES = ("brief", "loud")
SECRET = "so am i"


def record(prompt="How are you?", first="So am I.", second="Fine", **labels):
    return {"prompt": prompt, "response_0": first, "response_1": second, "helpful": 0, "harmless": 1, **labels}


def response_record(prompt="how are you", response=SECRET, dimension="brief", **others):
    return {"prompt": prompt, "response": response, "dimension": dimension, **others}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_prompt_length": 0}, "max_prompt_length is 0: .* ≥ 1 token"),
        ({"max_response_length": -1}, "max_response_length is -1: .* ≥ 1 token"),
        ({"on_long_prompt": "cut"}, "on_long_prompt is 'cut': it must be one of 'error', 'truncate', 'drop'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_limits_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        LengthLimits(**options)


def test_a_single_pair_cannot_be_dropped(chat):
    with pytest.raises(ValueError, match="on_long_prompt is 'drop': it must be 'error' or 'truncate'"):
        tokenize_pair(chat, record(), on_long_prompt="drop")


def test_long_prompt_is_an_error_by_default(chat):
    length = len(tokenize_pair(chat, record("How are you?" * 9))["prompt_ids"])
    rows = [record(), record("How are you?" * 9)]
    with pytest.raises(
        ValueError, match=rf"row 1: the prompt has {length} tokens, but max_prompt_length is {length - 1}"
    ):
        tokenize_records(chat, rows, OBJECTIVES, max_prompt_length=length - 1)


def test_long_prompt_truncated_on_the_left(chat, plain):
    whole = tokenize_pair(chat, record())["prompt_ids"]
    (row,) = tokenize_records(chat, [record()], OBJECTIVES, max_prompt_length=5, on_long_prompt="truncate")
    assert row["prompt_ids"] == whole[-5:]
    whole = tokenize_pair(plain, record("tell me more"))["prompt_ids"]
    (row,) = tokenize_records(plain, [record("tell me more")], OBJECTIVES, 5, on_long_prompt="truncate")
    assert row["prompt_ids"] == [plain.bos_token_id, *whole[-4:]], "the sequence still begins with its beginning token"


def test_long_prompt_dropped_with_a_warning(chat):
    rows = [record("How are you?" * 30), record(helpful=1)]
    with pytest.warns(UserWarning, match="left out 1 of 2 rows") as caught:
        remaining = tokenize_records(chat, rows, OBJECTIVES, 40, on_long_prompt="drop")
    assert caught[0].filename == __file__, "the warning names the caller's line"
    assert [row["labels"] for row in remaining] == [[1, 1]]
    with pytest.raises(ValueError, match="no row is left"):
        tokenize_records(chat, rows, OBJECTIVES, 1, on_long_prompt="drop")


def test_truncated_response_has_no_end_of_turn(chat):
    whole = tokenize_pair(chat, record())["response_0_ids"]
    for limit in range(1, len(whole)):
        ids = tokenize_pair(chat, record(), max_response_length=limit)["response_0_ids"]
        assert ids == whole[:limit]
        assert chat.eos_token_id not in ids
    assert tokenize_pair(chat, record(), max_response_length=len(whole))["response_0_ids"] == whole


def test_response_without_tokens_names_the_row(chat):
    silent = copy.deepcopy(chat)
    silent.backend_tokenizer.normalizer = normalizers.Replace("Fine", "")
    with pytest.raises(ValueError, match="row 1, column 'response_1': the response has no tokens"):
        tokenize_records(silent, [record(second="So"), record()], OBJECTIVES)


def test_prompt_without_tokens_names_the_row(plain):
    silent = PairTokenizer(plain)
    silent.beginning = []
    silent._ids = lambda text: [] if text == "silence" else PairTokenizer._ids(silent, text)
    with pytest.raises(ValueError, match="row 1: the prompt has no tokens"):
        tokenize_records(silent, [record(), record("silence")], OBJECTIVES)


def test_records_are_validated_and_labels_kept_in_order(chat):
    (row,) = tokenize_records(chat, [record(helpful=-1, harmless=0)], ("harmless", "helpful"))
    assert row["labels"] == [0, -1]
    with pytest.raises(ValueError, match="row 0, column 'helpful'"):
        tokenize_records(chat, [record(helpful=2)], OBJECTIVES)
    assert len(tokenize_records(chat, iter([record(), record()]), OBJECTIVES)) == 2


@pytest.mark.parametrize(
    "options",
    [{"max_prompt_length": 0}, {"max_response_length": 0}, {"on_long_prompt": "cut"}],
    ids=lambda o: next(iter(o)),
)
def test_options_are_checked(chat, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        tokenize_records(chat, [record()], OBJECTIVES, **options)


texts = st.text(min_size=1, max_size=30).filter(str.strip)


@given(prompt=texts, first=texts, second=texts, prompt_limit=st.integers(1, 40), limit=st.integers(1, 20))
@pytest.mark.parametrize("name", ["chat", "plain"])
def test_prompt_is_a_prefix_and_no_response_is_empty(request, name, prompt, first, second, prompt_limit, limit):
    tokenizer = request.getfixturevalue(name)
    one = record(prompt, first, second)
    (row,) = tokenize_records(tokenizer, [one], OBJECTIVES, prompt_limit, limit, on_long_prompt="truncate")
    assert 1 <= len(row["prompt_ids"]) <= prompt_limit
    (other,) = tokenize_records(tokenizer, [record(prompt, second, first)], OBJECTIVES, prompt_limit, 1000, "truncate")
    assert row["prompt_ids"] == other["prompt_ids"], "the prompt's ids do not depend on the response"
    for column, whole in (("response_0_ids", other["response_1_ids"]), ("response_1_ids", other["response_0_ids"])):
        assert 1 <= len(row[column]) <= limit
        assert row[column] == whole[:limit]


def test_response_rows_hold_the_words_and_the_dimensions_in_order(word_chat):
    records = [
        response_record(),
        response_record(response="fine", dimension=["loud", "brief"]),
        response_record(dimension=("loud",), note=""),
    ]
    rows = tokenize_responses(word_chat, records, STYLES)
    assert [word_chat.decode(row["prompt_ids"]) for row in rows] == ["<turn> how are you <end> <turn>"] * 3
    assert [word_chat.decode(row["response_ids"]) for row in rows] == ["so am i <end>", "fine <end>", "so am i <end>"]
    assert [row["dimensions"] for row in rows] == [[True, False], [True, True], [False, True]]
    assert [row["dimensions"] for row in tokenize_responses(word_chat, records, STYLES[::-1])] == [
        [False, True],
        [True, True],
        [True, False],
    ]
    assert all(set(row) == {"prompt_ids", "response_ids", "dimensions"} for row in rows)


@pytest.mark.parametrize("template", ["chat", None], ids=["chat template", "plain"])
@pytest.mark.parametrize(
    "prompt", ["how are you", [{"role": "user", "content": "how are you"}]], ids=["text", "messages"]
)
def test_response_ids_equal_those_of_a_pair(make_word_tokenizer, template, prompt):
    """One layout for all data: a response has the ids it would have in a preference record."""
    tokenizer = make_word_tokenizer(template, adds_beginning=True)
    for response in (SECRET, [{"role": "assistant", "content": SECRET}]):
        (row,) = tokenize_responses(tokenizer, [response_record(prompt, response)], STYLES)
        pair = tokenize_pair(tokenizer, {"prompt": prompt, "response_0": response, "response_1": "fine"})
        assert (row["prompt_ids"], row["response_ids"]) == (pair["prompt_ids"], pair["response_0_ids"])


def test_limits_of_response_rows(word_chat):
    records = [response_record("you " * 9, dimension="loud"), response_record()]
    with pytest.raises(ValueError, match="row 0: the prompt has 12 tokens, but max_prompt_length is 11"):
        tokenize_responses(word_chat, records, STYLES, max_prompt_length=11)
    cut = tokenize_responses(word_chat, records, STYLES, 11, 2, on_long_prompt="truncate")
    assert word_chat.decode(cut[0]["prompt_ids"]) == "you " * 9 + "<end> <turn>"
    assert word_chat.decode(cut[0]["response_ids"]) == "so am", "cut on the right, where no turn ends"
    with pytest.warns(UserWarning, match="left out 1 of 2 rows"):
        remaining = tokenize_responses(word_chat, records, STYLES, 11, on_long_prompt="drop")
    assert [row["dimensions"] for row in remaining] == [[True, False]]
    with pytest.raises(ValueError, match="no row is left"):
        tokenize_responses(word_chat, records, STYLES, 1, on_long_prompt="drop")
    for option in ({"max_prompt_length": 0}, {"max_response_length": 0}, {"on_long_prompt": "cut"}):
        with pytest.raises(ValueError, match=next(iter(option))):
            tokenize_responses(word_chat, records, STYLES, **option)


def test_response_records_may_be_an_iterator_or_a_dataset(word_chat):
    datasets = pytest.importorskip("datasets")
    records = [response_record(dimension=["brief"]), response_record("you", dimension=["loud", "brief"])]
    expected = tokenize_responses(word_chat, records, STYLES)
    assert tokenize_responses(PairTokenizer(word_chat), iter(records), STYLES) == expected
    assert tokenize_responses(word_chat, datasets.Dataset.from_list(records), STYLES) == expected


def test_response_records_are_validated(word_chat):
    with pytest.raises(ValueError, match="row 1, column 'dimension': 'polite' is none of 'brief', 'loud'") as caught:
        tokenize_responses(word_chat, [response_record(), response_record(dimension="polite")], STYLES)
    assert SECRET not in str(caught.value)


def test_a_response_without_tokens_is_named(word_chat):
    silent = PairTokenizer(word_chat)
    silent._ids = lambda text: [] if text.strip() == "fine" else PairTokenizer._ids(silent, text)
    with pytest.raises(ValueError, match="row 1, column 'response': the response has no tokens"):
        tokenize_responses(silent, [response_record(), response_record(response="fine")], STYLES)


def test_prompt_rows_hold_the_prompt_and_its_ids(word_chat):
    prompts = ["how are you", [{"role": "user", "content": "are you fine"}]]
    rows = tokenize_prompts(word_chat, iter(prompts))
    assert [row["prompt"] for row in rows] == prompts
    assert [word_chat.decode(row["prompt_ids"]) for row in rows] == [
        "<turn> how are you <end> <turn>",
        "<turn> are you fine <end> <turn>",
    ]
    assert all(set(row) == {"prompt", "prompt_ids"} for row in rows)
    assert rows[0]["prompt_ids"] == tokenize_responses(word_chat, [response_record()], STYLES)[0]["prompt_ids"]


def test_limits_of_prompt_rows(word_chat):
    prompts = ["you " * 9, "you"]
    with pytest.raises(ValueError, match="row 0: the prompt has 12 tokens, but max_prompt_length is 11"):
        tokenize_prompts(word_chat, prompts, 11)
    cut = tokenize_prompts(word_chat, prompts, 4, on_long_prompt="truncate")
    assert word_chat.decode(cut[0]["prompt_ids"]) == "you you <end> <turn>"
    with pytest.warns(UserWarning, match="left out 1 of 2 rows"):
        assert [row["prompt"] for row in tokenize_prompts(word_chat, prompts, 11, "drop")] == ["you"]


def test_prompts_that_are_none(word_chat):
    with pytest.raises(ValueError, match="row 1: the prompt is empty") as caught:
        tokenize_prompts(word_chat, [SECRET, "  "])
    assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="prompts is a single text of 7 characters") as caught:
        tokenize_prompts(word_chat, SECRET)
    assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="there are no prompts"):
        tokenize_prompts(word_chat, [])


@pytest.mark.parametrize(
    ("adds_beginning", "first", "rest"),
    [(True, "<s>", "how are you"), (False, "how", "are you")],
    ids=["bos", "no bos"],
)
@pytest.mark.parametrize("template", ["chat", None], ids=["chat template", "plain"])
def test_plain_text_is_predicted_from_its_first_token_on(make_word_tokenizer, adds_beginning, first, rest, template):
    tokenizer = make_word_tokenizer(template, adds_beginning)
    (row,) = plain_text_rows(tokenizer, ["how are you"])
    assert tokenizer.decode(row["prompt_ids"]) == first
    assert tokenizer.decode(row["response_ids"]) == rest, "no end-of-turn token, no template"
    (cut,) = plain_text_rows(tokenizer, ["how are you"], max_length=2)
    assert cut["prompt_ids"] + cut["response_ids"] == (row["prompt_ids"] + row["response_ids"])[:2]


def test_plain_texts_that_cannot_be_predicted(word_chat):
    with pytest.raises(ValueError, match="row 1: the text has 1 of at least 2 tokens"):
        plain_text_rows(word_chat, ["how are", "you"])
    with pytest.raises(ValueError, match="row 0: the text has 0"):
        plain_text_rows(word_chat, [""])
    with pytest.raises(ValueError, match="row 1 is a list"):
        plain_text_rows(word_chat, ["how are", ["you", "am"]])
    with pytest.raises(ValueError, match="single text"):
        plain_text_rows(word_chat, "how are you")
    with pytest.raises(ValueError, match="max_length is 1"):
        plain_text_rows(word_chat, ["how are you"], max_length=1)
    with pytest.raises(ValueError, match="no texts"):
        plain_text_rows(word_chat, [])
