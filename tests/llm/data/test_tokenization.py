"""Rows of token ids from both kinds of record, from prompts and from plain texts."""

import copy
import warnings
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tokenizers import normalizers

from mopref.llm.data.chat_template import PairTokenizer
from mopref.llm.data.text_in_place import Lead
from mopref.llm.data.tokenization import (
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
    assert (row["labels"], row["objectives"]) == ([0, -1], ("harmless", "helpful"))
    rows = tokenize_records(chat, [record(), record()], list(OBJECTIVES))
    assert rows[0]["objectives"] is rows[1]["objectives"]
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
    assert all(set(row) == {"prompt_ids", "response_ids", "dimensions", "objectives"} for row in rows)
    assert rows[0]["objectives"] == STYLES
    assert all(row["objectives"] is rows[0]["objectives"] for row in rows), "one tuple for all rows"


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
    assert word_chat.decode(cut[0]["prompt_ids"]) == "<turn> " + "you " * 8 + "<end> <turn>"
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
    in_table = tokenize_responses(word_chat, datasets.Dataset.from_list(records), STYLES)
    assert [{**row, "objectives": tuple(row["objectives"])} for row in in_table] == expected


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
    assert word_chat.decode(cut[0]["prompt_ids"]) == "<turn> you <end> <turn>"
    cut = tokenize_prompts(word_chat, prompts, 3, on_long_prompt="truncate")
    assert word_chat.decode(cut[0]["prompt_ids"]) == "you <end> <turn>", "nothing of the message would be left"
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
    with pytest.raises(ValueError, match="texts is a dict: it must be a list of texts"):
        plain_text_rows(word_chat, {"how are you": ["how are you"]})
    with pytest.raises(ValueError, match="max_length is 1"):
        plain_text_rows(word_chat, ["how are you"], max_length=1)
    with pytest.raises(ValueError, match="no texts"):
        plain_text_rows(word_chat, [])


REFUSING_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def test_the_rows_of_prompts_that_the_template_refuses(make_byte_tokenizer):
    tokenizer = make_byte_tokenizer(REFUSING_TEMPLATE, eos_token="<|im_end|>")
    prompt = [{"role": "system", "content": SECRET}, {"role": "user", "content": SECRET}]
    message = r"row 1: the prompt is refused by the chat template \(TemplateError: no system role\)"
    for call in (
        lambda: tokenize_records(tokenizer, [record(), record(prompt)], OBJECTIVES),
        lambda: tokenize_responses(tokenizer, [response_record(), response_record(prompt)], STYLES),
        lambda: tokenize_prompts(tokenizer, ["how", prompt]),
        lambda: tokenize_pair(tokenizer, record(prompt), row=1),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert SECRET not in str(caught.value)


def test_the_row_of_a_response_that_has_no_tokens_of_its_own(chat):
    merging = PairTokenizer(chat)
    merging._leads = (Lead("?", [-1]),)
    with pytest.raises(ValueError, match="row 1, column 'response_0' is merged by the tokenizer") as caught:
        tokenize_pair(merging, record(first=SECRET), row=1)
    assert SECRET not in str(caught.value)


def test_the_rows_of_texts_with_turn_tokens(chat):
    """In the middle of a response, or in a prompt; at a response's end it is its end."""
    text = f"{SECRET}<|im_end|>{SECRET}"
    with pytest.raises(ValueError, match=r"row 1, column 'response_1' holds '<\|im_end\|>'") as caught:
        tokenize_records(chat, [record(), record(second=text)], OBJECTIVES)
    assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match=r"row 1, column 'response' holds '<\|im_end\|>'"):
        tokenize_responses(chat, [response_record(), response_record(response=text)], STYLES)
    rendered = f"<|im_start|>user\n{SECRET}<|im_end|>\n<|im_start|>assistant\n"
    for call in (
        lambda: tokenize_records(chat, [record(), record(rendered)], OBJECTIVES),
        lambda: tokenize_responses(chat, [response_record(), response_record(rendered)], STYLES),
        lambda: tokenize_prompts(chat, ["how", rendered]),
    ):
        with pytest.raises(ValueError, match=r"row 1: the prompt holds '<\|im_start\|>'") as caught:
            call()
        assert SECRET not in str(caught.value)
    ended = record(first="So am I.<|im_end|>\n", second="Fine<|im_end|>")
    assert tokenize_records(chat, [ended], OBJECTIVES) == tokenize_records(chat, [record()], OBJECTIVES)


def test_the_row_of_a_response_of_nothing_but_its_end(chat):
    with pytest.raises(ValueError, match="row 1, column 'response_0': the response has no tokens"):
        tokenize_records(chat, [record(), record(first=" <|im_end|>\n")], OBJECTIVES)


def test_a_truncated_prompt_begins_as_the_template_does(make_byte_tokenizer):
    template = "{{ bos_token }}" + make_byte_tokenizer("chat").chat_template
    tokenizer = make_byte_tokenizer(template, eos_token="<|im_end|>", bos_token="<s>")
    (whole,) = tokenize_prompts(tokenizer, ["123456789"])
    length = len(whole["prompt_ids"])
    (cut,) = tokenize_prompts(tokenizer, ["123456789"], length - 3, "truncate")
    expected = "<s><|im_start|>user\n456789<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(cut["prompt_ids"]) == expected
    for rows in (
        tokenize_records(tokenizer, [record("123456789")], OBJECTIVES, length - 3, on_long_prompt="truncate"),
        tokenize_responses(tokenizer, [response_record("123456789")], STYLES, length - 3, on_long_prompt="truncate"),
    ):
        assert rows[0]["prompt_ids"] == cut["prompt_ids"]
    (short,) = tokenize_prompts(tokenizer, ["123456789"], 4, "truncate")
    assert short["prompt_ids"] == [tokenizer.bos_token_id, *whole["prompt_ids"][-3:]]


def test_half_a_surrogate_pair_in_a_plain_text(plain):
    with pytest.raises(ValueError, match="row 1: the text holds half a surrogate pair"):
        plain_text_rows(plain, ["so am i", "so \ud83d"])


@pytest.mark.parametrize("kind", ["always", "first", "prepend"])
def test_plain_text_is_the_text_in_one_go(make_sentence_piece_tokenizer, kind):
    tokenizer = make_sentence_piece_tokenizer(kind)
    (row,) = plain_text_rows(tokenizer, ["Because they are calm."])
    assert row["prompt_ids"] + row["response_ids"] == tokenizer("Because they are calm.")["input_ids"]


@pytest.mark.parametrize("messages", [False, True])
def test_responses_that_are_cut_are_counted(chat, messages):
    """One of just the limit is whole, and a prompt that is left out has none."""
    as_given = (lambda text: [{"role": "assistant", "content": text}]) if messages else str
    limit = len(chat("So am I.", add_special_tokens=False)["input_ids"]) + 1
    texts = [("So am I.", "Fine"), ("So am I. Fine.", "Fine, fine, fine."), ("Fine", "Fine, so am I.")]
    records = [record(first=as_given(first), second=as_given(second)) for first, second in texts]
    records.append(record("How are you?" * 30, "So am I. " * 9))
    with pytest.warns(UserWarning, match=rf"cut 3 of 6 responses to max_response_length = {limit} tokens") as caught:
        tokenize_records(chat, records, OBJECTIVES, 40, limit, on_long_prompt="drop")
    assert [warning.filename for warning in caught] == [__file__] * 2, "and one of the prompt that was left out"
    with pytest.warns(UserWarning, match="cut 1 of 2 responses") as caught:
        tokenize_pair(chat, records[2], max_response_length=limit)
    assert caught[0].filename == __file__
    answers = [response_record(response=as_given(text)) for pair in texts for text in pair]
    with pytest.warns(UserWarning, match="cut 3 of 6 responses") as caught:
        rows = tokenize_responses(chat, answers, STYLES, max_response_length=limit)
    assert caught[0].filename == __file__
    assert sum(row["response_ids"][-1] != chat.eos_token_id for row in rows) == 3


def test_labelled_responses_that_are_equal_are_counted(chat):
    same, later = record(first="Fine", second="Fine"), record(first="So am I. Yes.", second="So am I. No.")
    unlabelled = record(first="Fine", second="Fine", helpful=-1, harmless=-1)
    half = record(first="Fine", second="Fine", helpful=-1, harmless=0)
    whole = len(tokenize_pair(chat, record())["response_0_ids"])
    with pytest.warns(
        UserWarning, match=r"3 of 5 rows are labelled, but .* equal within max_response_length"
    ) as caught:
        tokenize_records(chat, [record(), same, later, unlabelled, half], OBJECTIVES, max_response_length=whole - 1)
    assert caught[-1].filename == __file__
    with pytest.warns(UserWarning, match="2 of 5 rows are labelled") as caught:
        tokenize_records(chat, [record(), same, later, unlabelled, half], OBJECTIVES)
    assert len(caught) == 1


def test_nothing_is_told_of_whole_and_different_responses(chat, plain):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tokenizer in (chat, plain):
            pair = tokenize_pair(tokenizer, record())
            limit = max(len(pair["response_0_ids"]), len(pair["response_1_ids"]))
            tokenize_records(tokenizer, [record()], OBJECTIVES, max_response_length=limit)
            tokenize_responses(tokenizer, [response_record(response="So am I.")], STYLES, max_response_length=limit)
            tokenize_prompts(tokenizer, ["How are you?"])


def test_a_response_within_the_templates_thoughts_names_the_row(chat):
    opening = copy.deepcopy(chat)
    opening.chat_template = chat.chat_template.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
    good = "So am I.</think>Fine"
    with pytest.raises(ValueError, match="row 1, column 'response_1' does not hold '</think>'") as caught:
        tokenize_records(opening, [record(first=good, second=good), record(first=good, second=SECRET)], OBJECTIVES)
    assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="row 0, column 'response' does not hold '</think>'"):
        tokenize_responses(opening, [response_record()], STYLES)
    (row,) = tokenize_prompts(opening, ["How are you?"])
    assert opening.decode(row["prompt_ids"]).endswith("<|im_start|>assistant\n<think>\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_prompt_length": "5"}, "max_prompt_length is '5', of type str: give a whole number"),
        ({"max_prompt_length": None}, "max_prompt_length is None"),
        ({"max_response_length": 2.5}, r"max_response_length is 2\.5"),
    ],
)
def test_lengths_are_whole_numbers(chat, options, message):
    with pytest.raises(TypeError, match=message):
        tokenize_records(chat, [record()], OBJECTIVES, **options)


@pytest.mark.parametrize("tokenizer", ["gpt2", None, Path("gpt2"), {}])
def test_the_name_of_a_tokenizer_is_none(tokenizer):
    for make in (
        lambda: tokenize_records(tokenizer, [record()], OBJECTIVES),
        lambda: tokenize_pair(tokenizer, record()),
        lambda: tokenize_responses(tokenizer, [response_record()], STYLES),
        lambda: tokenize_prompts(tokenizer, ["How are you?"]),
        lambda: plain_text_rows(tokenizer, ["How are you?"]),
    ):
        with pytest.raises(TypeError, match=r"tokenizer is .*: give the tokenizer itself"):
            make()


def test_the_length_of_plain_texts_is_a_whole_number(chat):
    with pytest.raises(TypeError, match="max_length is '9'"):
        plain_text_rows(chat, ["How are you?"], max_length="9")
