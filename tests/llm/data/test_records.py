import random

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from hypothesis import assume, given, strategies as st

from mopref.llm.data.records import (
    check_label,
    check_record,
    is_empty_text,
    label_counts,
    record_dimensions,
    refuse_columns,
    refuse_no_records,
    refuse_other_inputs,
    split_by_prompt,
    surrogate_problem,
    text_problem,
    validate_records,
    validate_response_records,
)

OBJECTIVES = ("helpful", "harmless")
STYLES = ("brief", "loud")
SECRET = "so am i"


def record(**changes):
    good = {"prompt": "How?", "response_0": "So.", "response_1": "Not so.", "helpful": 0, "harmless": 1}
    return {**good, **changes}


def response_record(prompt="how are you", response=SECRET, dimension="brief", **others):
    return {"prompt": prompt, "response": response, "dimension": dimension, **others}


def chat(role, content):
    return [{"role": role, "content": content}]


@pytest.mark.parametrize(
    "good",
    [
        record(),
        record(helpful=-1, harmless=-1),
        record(helpful=np.int64(1)),
        record(extra="ignored", tools=[], images=None),
        record(response_0=[{"role": "assistant", "content": "So.", "tool_calls": None, "name": "Ann"}]),
        record(prompt=[*chat("user", "Hi"), *chat("assistant", "Hello"), *chat("tool", "12:00")]),
        record(prompt=[*chat("system", ""), *chat("user", "Hi")], response_0=chat("assistant", "Hello")),
    ],
)
def test_valid_records_pass(good):
    validate_records([record(), good], OBJECTIVES)


def test_dataset_is_accepted():
    validate_records(Dataset.from_list([record(), record(prompt="Why?")]), OBJECTIVES)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("prompt", ""),
        ("prompt", " \n\t"),
        ("prompt", []),
        ("prompt", chat("user", "  ")),
        ("prompt", None),
        ("prompt", 3),
        ("response_0", "\n"),
        ("response_1", ""),
        ("response_1", chat("user", "I am not the assistant")),
        ("response_0", [{"role": "assistant"}]),
        ("response_0", b"bytes"),
        ("prompt", "half \ud83d an emoji"),
        ("response_1", "\udc00"),
        ("prompt", chat("user", "\ud83d")),
        ("prompt", chat("user\udc00", "Hi")),
        ("response_0", chat("assistant", "\ud83d")),
        ("prompt", [*chat("user", "Hi"), *chat("assistant", "Dear Ann,")]),
        ("prompt", chat("Assistant", "Dear Ann,")),
        ("prompt", chat("model", "Dear Ann,")),
        ("prompt", [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]),
        ("response_0", [{"role": "assistant", "content": "So.", "tool_calls": [{"name": "clock"}]}]),
        ("response_1", [{"role": "assistant", "content": "So.", "reasoning_content": "Hm."}]),
        ("helpful", 2),
        ("helpful", -2),
        ("helpful", True),
        ("harmless", "1"),
        ("harmless", 1.0),
        ("harmless", float("nan")),
        ("harmless", None),
    ],
)
def test_errors_name_row_and_column(column, value):
    with pytest.raises(ValueError, match=rf"row 2, column '{column}'"):
        validate_records([record(), record(), record(**{column: value})], OBJECTIVES)


@pytest.mark.parametrize("column", ["prompt", "response_0", "response_1", "helpful", "harmless"])
def test_missing_column_is_named(column):
    broken = record()
    del broken[column]
    with pytest.raises(ValueError, match=rf"row 1: column '{column}' is missing"):
        validate_records([record(), broken], OBJECTIVES)


def test_unknown_label_is_shown():
    with pytest.raises(ValueError, match=r"the label is 7 \(int\)"):
        validate_records([record(helpful=7)], OBJECTIVES)


def test_texts_never_appear_in_messages():
    for broken in (record(prompt="a secret text", helpful=5), record(helpful="a secret text")):
        with pytest.raises(ValueError, match="row 0, column 'helpful': the label is") as error:
            validate_records([broken], OBJECTIVES)
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("objectives", [(), "helpful", ("a", "a"), ("prompt",), ("",), (1,)])
def test_objectives_are_checked(objectives):
    with pytest.raises(ValueError, match="objectives is"):
        validate_records([record()], objectives)


@pytest.mark.parametrize("records", [[], {"prompt": ["a"]}, [("prompt",)]])
def test_other_shapes_are_refused(records):
    with pytest.raises(ValueError, match=r"no records|is a dict|is a tuple"):
        validate_records(records, OBJECTIVES)


prompts = st.lists(st.text(min_size=1).filter(str.strip), min_size=4, max_size=40)


@given(prompts, st.integers(0, 5), st.sampled_from([0.2, 0.5, 0.7]))
def test_split_keeps_every_prompt_on_one_side(texts, seed, fraction):
    rows = [record(prompt=text, number=number) for number, text in enumerate(texts)]
    distinct = len({" ".join(text.split()) for text in texts})
    assume(0 < round(fraction * distinct) < distinct)
    train, test = split_by_prompt(rows, fraction, seed)
    assert train
    assert test
    assert not {" ".join(row["prompt"].split()) for row in train} & {" ".join(row["prompt"].split()) for row in test}
    assert sorted(row["number"] for row in train + test) == list(range(len(texts)))


def test_split_does_not_depend_on_row_order():
    rows = [record(prompt=f"prompt {number % 25}", number=number) for number in range(100)]
    _, test = split_by_prompt(rows, 0.2, seed=3)
    assert len({row["prompt"] for row in test}) == 5
    shuffled = random.Random(0).sample(rows, len(rows))
    _, again = split_by_prompt(shuffled, 0.2, seed=3)
    assert {row["number"] for row in test} == {row["number"] for row in again}
    _, other = split_by_prompt(rows, 0.2, seed=4)
    assert {row["number"] for row in test} != {row["number"] for row in other}


def test_split_treats_text_and_chat_prompts_alike():
    rows = [record(prompt=f"{n}") for n in range(10)] + [record(prompt=chat("user", f" {n} ")) for n in range(10)]
    _, test = split_by_prompt(rows, 0.3)
    assert len(test) == 6


def continued(number, greeting=(), roles=("user", "assistant")):
    """A dialogue's prompt, and those of its two continuations."""
    user, assistant = roles
    first = [*greeting, *chat(user, f"Tell me about town {number}.")]
    second = [*first, *chat(assistant, f"Town {number} is old."), *chat(user, "How old?")]
    return first, second, [*second, *chat(assistant, "Very."), *chat(user, "Why?")]


def as_text(messages):
    names = {"system": "System", "user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[m['role']]}: {m['content']}" for m in messages) + "\n\nAssistant:"


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (list, {}),
        (list, {"greeting": chat("system", "Be kind.")}),
        (list, {"greeting": chat("assistant", "Hello!")}),
        (list, {"greeting": [*chat("system", "Be kind."), *chat("assistant", "Hello!")]}),
        (list, {"roles": ("user", "model")}),
        (list, {"roles": ("User", "Assistant")}),
        (as_text, {}),
        (as_text, {"greeting": chat("system", "Be kind.")}),
    ],
)
def test_split_keeps_a_dialogue_and_its_continuations_on_one_side(form, options):
    rows = [record(prompt=form(prompt), number=n) for n in range(40) for prompt in continued(n, **options)]
    train, test = split_by_prompt(rows, 0.25)
    assert len(test) == 30
    assert not {row["number"] for row in train} & {row["number"] for row in test}


def test_split_treats_a_dialogue_as_text_and_as_messages_alike():
    greeting = chat("system", "Be kind.")
    prompts = [(number, prompt) for number in range(20) for prompt in continued(number, greeting)]
    rows = [record(prompt=form(prompt), number=number) for number, prompt in prompts for form in (list, as_text)]
    train, test = split_by_prompt(rows, 0.5)
    assert len(test) == 60
    assert not {row["number"] for row in train} & {row["number"] for row in test}


def test_split_parts_dialogues_that_begin_otherwise():
    """The same question in the middle makes no dialogue the same, nor does a text that only speaks of such turns."""
    rows = [record(prompt=[*chat("user", f"{n}"), *chat("assistant", "So."), *chat("user", "Why?")]) for n in range(20)]
    rows += [record(prompt=f"Write a scene.\n\nHuman: one\n\nAssistant: {n}") for n in range(20)]
    assert len(split_by_prompt(rows, 0.5)[1]) == 20


def test_split_of_a_dataset_gives_datasets():
    rows = [record(prompt=f"prompt {number}") for number in range(10)]
    train, test = split_by_prompt(Dataset.from_list(rows), 0.2)
    assert isinstance(train, Dataset)
    assert (len(train), len(test)) == (8, 2)
    assert list(test) == split_by_prompt(rows, 0.2)[1]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_split_fraction_is_checked(fraction):
    with pytest.raises(ValueError, match="test_fraction"):
        split_by_prompt([record()] * 3, fraction)


def test_split_with_an_empty_side_is_an_error():
    with pytest.raises(ValueError, match="one side would be empty"):
        split_by_prompt([record()] * 30, 0.5)


def test_label_counts():
    rows = [record(), record(harmless=0), record(harmless=-1), record(prompt="Why?", helpful=-1, harmless=-1)]
    counts = label_counts(rows, OBJECTIVES)
    assert (counts.records, counts.prompts) == (4, 2)
    assert counts.labelled == {"helpful": 3, "harmless": 2}
    assert (counts.labelled_on_all, counts.in_conflict) == (2, 1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": "how", "response": SECRET}, r"row 1: column 'dimension' is missing \(there are: 'prompt'"),
        ({"prompt": "how", "dimension": "brief"}, "row 1: column 'response' is missing"),
        (response_record(prompt="  \n"), "row 1, column 'prompt' is empty"),
        (response_record(response=""), "row 1, column 'response' is empty"),
        (response_record(response=3), "row 1, column 'response' is a int"),
        (
            response_record(response=chat("user", SECRET)),
            "row 1, column 'response' is malformed: message 0 has the role 'user'",
        ),
        (
            response_record(prompt=[{"content": SECRET}]),
            "row 1, column 'prompt' is malformed: message 0 must be a dict",
        ),
        (response_record(dimension="polite"), "row 1, column 'dimension': 'polite' is none of 'brief', 'loud'"),
        (response_record(dimension=["brief", None]), "row 1, column 'dimension': None is none of"),
        (response_record(dimension=[]), "row 1, column 'dimension' is empty: name at least one of"),
        (response_record(dimension=None), "row 1, column 'dimension' is a NoneType"),
        ([SECRET], "row 1 is a list"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bad_response_records_are_named_without_their_texts(bad, message):
    with pytest.raises(ValueError, match=message) as caught:
        validate_response_records([response_record(), bad], STYLES)
    assert SECRET not in str(caught.value)


def test_no_response_records_and_bad_dimensions():
    with pytest.raises(ValueError, match="no records"):
        validate_response_records([], STYLES)
    with pytest.raises(ValueError, match="records is a dict"):
        validate_response_records(response_record(), STYLES)
    for names in ("brief", (), ("brief", "brief"), ("brief", " "), ("brief", 3)):
        with pytest.raises(ValueError, match="dimensions is"):
            validate_response_records([response_record()], names)
    # Unlike a preference record's objectives, dimensions are no columns: any name will do.
    validate_response_records([response_record(dimension="prompt")], ("prompt", "response"))


def test_a_dimension_is_a_name_or_several():
    assert record_dimensions(response_record()) == ("brief",)
    assert record_dimensions(response_record(dimension=["loud", "brief"])) == ("loud", "brief")


@pytest.mark.parametrize("column", ["tools", "images", "image", "audio", "documents", "chat_template_kwargs"])
def test_what_would_be_left_out_of_a_record_is_refused(column):
    broken = {column: ["something"]}
    for check, good in ((validate_records, record()), (validate_response_records, response_record())):
        names = OBJECTIVES if check is validate_records else STYLES
        with pytest.raises(ValueError, match=f"row 1, column '{column}' holds something that is not rendered"):
            check([good, {**good, **broken}], names)
    refuse_other_inputs({"tools": 1}, 0, ("tools",))


def test_parts_of_a_message_are_named():
    image = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": SECRET}]}]
    problem = text_problem(image, assistant_only=False)
    assert problem.startswith("is malformed: message 0 has content in parts (image, text)")
    assert SECRET not in problem
    calls = [{"role": "assistant", "content": SECRET, "tool_calls": [1]}]
    assert text_problem(calls, assistant_only=True).startswith("is malformed: message 0 holds 'tool_calls'")
    assert text_problem([*calls, *chat("user", "So?")], assistant_only=False) is None, "a template may render them"


def test_bytes_are_no_text():
    assert text_problem(b"so am i", assistant_only=True) == "is a bytes: it must be text or a list of chat messages."


def test_half_a_surrogate_pair_is_named_by_its_code():
    problem = surrogate_problem(f"{SECRET}\ud83d")
    assert problem.startswith("holds half a surrogate pair (U+D83D) at character 7")
    assert SECRET not in problem
    assert "UTF-8" not in problem
    byte = surrogate_problem(b"caf\xe9".decode(errors="surrogateescape"))
    assert byte.endswith("half of an emoji was cut off, or a byte is not UTF-8, so repair the text.")
    assert surrogate_problem("a whole \U0001f600") is None
    broken = [response_record(), response_record(response="\udfff")]
    with pytest.raises(ValueError, match="row 1, column 'response' holds half a surrogate pair"):
        validate_response_records(broken, STYLES)


def test_a_prompt_may_not_end_with_the_assistant():
    prompt = [*chat("user", SECRET), *chat("assistant", "Dear Ann,")]
    with pytest.raises(ValueError, match="row 0, column 'prompt' ends with a message of the assistant's") as caught:
        validate_response_records([response_record(prompt=prompt)], STYLES)
    assert SECRET not in str(caught.value)


def test_what_is_no_text_is_not_empty():
    for value in (3, None, ["no message"], [{"role": "assistant"}], [{"role": "user", "content": "\ud83d"}]):
        assert not is_empty_text(value)
    assert is_empty_text(chat("user", " \n"))


def test_one_record_is_checked_under_its_own_number():
    check_record(record(), OBJECTIVES, 7)
    with pytest.raises(ValueError, match="row 7, column 'harmless'"):
        check_record(record(harmless=2), OBJECTIVES, 7)
    with pytest.raises(ValueError, match="there are no records"):
        refuse_no_records(0)
    refuse_no_records(1)


def test_tables_of_columns_are_refused_by_name():
    with pytest.raises(ValueError, match=r"records is a dict: it must be a list of dicts.*to_dict\('records'\)"):
        refuse_columns({"prompt": []})
    refuse_columns([])


@pytest.mark.parametrize(
    ("options", "message"), [({"test_fraction": "0.5"}, "test_fraction is '0.5'"), ({"seed": "s"}, "seed is 's'")]
)
def test_a_split_of_another_type_is_named(options, message):
    with pytest.raises(TypeError, match=message):
        split_by_prompt([{"prompt": "a"}, {"prompt": "b"}], **({"test_fraction": 0.5} | options))


def test_rows_of_token_ids_have_no_labels_to_count():
    with pytest.raises(ValueError, match="row 0: column 'prompt' is missing"):
        label_counts([{"prompt_ids": [1], "labels": [0]}], ("helpful",))


@pytest.mark.parametrize("names", [None, 3, "ab"])
def test_names_that_are_no_list(names):
    with pytest.raises(ValueError, match=r"objectives is .*: it names the label columns"):
        label_counts([], names)


def test_a_label_that_is_a_table_is_refused_by_its_place():
    """Whether it equals itself is no single answer."""
    for label in (pd.Series([1.0]), np.ones(2), torch.ones(2)):
        with pytest.raises(ValueError, match=r"row 0, column 'helpful': the label is a .*, which is neither"):
            check_label(label, 0, "helpful")


@pytest.mark.parametrize("records", [np.True_, np.array(1.0), torch.tensor(1.0)])
def test_an_array_of_no_dimension_is_no_list_of_records(records):
    with pytest.raises(ValueError, match=r"records is a .*: give a list"):
        refuse_columns(records)
