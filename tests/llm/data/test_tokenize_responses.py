"""Rows for supervised fine-tuning, from response records and from plain texts."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mopref.llm.data.response_records import validate_response_records
from mopref.llm.data.tokenization import PairTokenizer, plain_text_rows, tokenize_pair, tokenize_responses

WORDS = ["how", "are", "you", "so", "am", "i", "fine"]
STYLES = ("brief", "loud")
SECRET = "so am i"
CHATML = (
    "{% for message in messages %}<turn> {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<turn> {% endif %}"
)


def make(template=None, adds_beginning=False):
    """A word-level tokenizer."""
    vocabulary = {word: index for index, word in enumerate(["<s>", "</s>", "<turn>", "<end>", "<unk>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_beginning:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<end>"]})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def chat():
    return make(CHATML)


def record(prompt="how are you", response=SECRET, dimension="brief", **others):
    return {"prompt": prompt, "response": response, "dimension": dimension, **others}


def test_rows_hold_the_words_and_the_dimensions_in_order(chat):
    records = [
        record(),
        record(response="fine", dimension=["loud", "brief"]),
        record(dimension=("loud",), note=""),
    ]
    rows = tokenize_responses(chat, records, STYLES)
    assert [chat.decode(row["prompt_ids"]) for row in rows] == ["<turn> how are you <end> <turn>"] * 3
    assert [chat.decode(row["response_ids"]) for row in rows] == ["so am i <end>", "fine <end>", "so am i <end>"]
    assert [row["dimensions"] for row in rows] == [[True, False], [True, True], [False, True]]
    assert [row["dimensions"] for row in tokenize_responses(chat, records, STYLES[::-1])] == [
        [False, True],
        [True, True],
        [True, False],
    ]
    assert all(set(row) == {"prompt_ids", "response_ids", "dimensions"} for row in rows)


@pytest.mark.parametrize("template", [CHATML, None], ids=["chat template", "plain"])
@pytest.mark.parametrize(
    "prompt", ["how are you", [{"role": "user", "content": "how are you"}]], ids=["text", "messages"]
)
def test_ids_equal_those_of_a_pair(template, prompt):
    """One layout for all data: a response has the ids it would have in a preference record."""
    tokenizer = make(template, adds_beginning=True)
    for response in (SECRET, [{"role": "assistant", "content": SECRET}]):
        (row,) = tokenize_responses(tokenizer, [record(prompt, response)], STYLES)
        pair = tokenize_pair(tokenizer, {"prompt": prompt, "response_0": response, "response_1": "fine"})
        assert (row["prompt_ids"], row["response_ids"]) == (pair["prompt_ids"], pair["response_0_ids"])


def test_limits(chat):
    records = [record("you " * 9, dimension="loud"), record()]
    with pytest.raises(ValueError, match="row 0: the prompt has 12 tokens, but max_prompt_length is 11"):
        tokenize_responses(chat, records, STYLES, max_prompt_length=11)
    cut = tokenize_responses(chat, records, STYLES, 11, 2, on_long_prompt="truncate")
    assert chat.decode(cut[0]["prompt_ids"]) == "you " * 9 + "<end> <turn>"
    assert chat.decode(cut[0]["response_ids"]) == "so am", "cut on the right, where no turn ends"
    with pytest.warns(UserWarning, match="left out 1 of 2 rows"):
        kept = tokenize_responses(chat, records, STYLES, 11, on_long_prompt="drop")
    assert [row["dimensions"] for row in kept] == [[True, False]]
    with pytest.raises(ValueError, match="no row is left"):
        tokenize_responses(chat, records, STYLES, 1, on_long_prompt="drop")
    for option in ({"max_prompt_length": 0}, {"max_response_length": 0}, {"on_long_prompt": "cut"}):
        with pytest.raises(ValueError, match=next(iter(option))):
            tokenize_responses(chat, records, STYLES, **option)


def test_records_may_be_an_iterator_or_a_dataset(chat):
    datasets = pytest.importorskip("datasets")
    records = [record(dimension=["brief"]), record("you", dimension=["loud", "brief"])]
    expected = tokenize_responses(chat, records, STYLES)
    assert tokenize_responses(PairTokenizer(chat), iter(records), STYLES) == expected
    assert tokenize_responses(chat, datasets.Dataset.from_list(records), STYLES) == expected


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": "how", "response": SECRET}, r"row 1: column 'dimension' is missing \(there are: 'prompt'"),
        ({"prompt": "how", "dimension": "brief"}, "row 1: column 'response' is missing"),
        (record(prompt="  \n"), "row 1, column 'prompt': is empty"),
        (record(response=""), "row 1, column 'response': is empty"),
        (record(response=3), "row 1, column 'response': is a int"),
        (record(response=[{"role": "user", "content": SECRET}]), "row 1, column 'response': message 0 has the role"),
        (record(prompt=[{"content": SECRET}]), "row 1, column 'prompt': message 0 is not a dict"),
        (record(dimension="polite"), "row 1, column 'dimension': 'polite' is none of 'brief', 'loud'"),
        (record(dimension=["brief", None]), "row 1, column 'dimension': None is none of"),
        (record(dimension=[]), "row 1, column 'dimension': is empty; name at least one of"),
        (record(dimension=None), "row 1, column 'dimension': is a NoneType"),
        ([SECRET], "row 1 is a list"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bad_records_are_named_without_their_texts(chat, bad, message):
    with pytest.raises(ValueError, match=message) as caught:
        tokenize_responses(chat, [record(), bad], STYLES)
    assert SECRET not in str(caught.value)


def test_no_records_and_bad_names():
    with pytest.raises(ValueError, match="no records"):
        validate_response_records([], STYLES)
    with pytest.raises(ValueError, match="records is a dict"):
        validate_response_records(record(), STYLES)
    for names in ("brief", (), ("brief", "brief"), ("brief", " "), ("brief", 3)):
        with pytest.raises(ValueError, match="dimensions is"):
            validate_response_records([record()], names)
    # Unlike a preference record's objectives, dimensions are no columns: any name will do.
    validate_response_records([record(dimension="prompt")], ("prompt", "response"))


def test_a_response_without_tokens_is_named(chat):
    silent = PairTokenizer(chat)
    silent._ids = lambda text: [] if text.strip() == "fine" else PairTokenizer._ids(silent, text)
    with pytest.raises(ValueError, match="row 1, column 'response': the response has no tokens"):
        tokenize_responses(silent, [record(), record(response="fine")], STYLES)


@pytest.mark.parametrize(
    ("adds_beginning", "first", "rest"),
    [(True, "<s>", "how are you"), (False, "how", "are you")],
    ids=["bos", "no bos"],
)
@pytest.mark.parametrize("template", [CHATML, None], ids=["chat template", "plain"])
def test_plain_text_is_predicted_from_its_first_token_on(adds_beginning, first, rest, template):
    tokenizer = make(template, adds_beginning)
    (row,) = plain_text_rows(tokenizer, ["how are you"])
    assert tokenizer.decode(row["prompt_ids"]) == first
    assert tokenizer.decode(row["response_ids"]) == rest, "no end-of-turn token, no template"
    (cut,) = plain_text_rows(tokenizer, ["how are you"], max_length=2)
    assert cut["prompt_ids"] + cut["response_ids"] == (row["prompt_ids"] + row["response_ids"])[:2]


def test_plain_texts_that_cannot_be_predicted(chat):
    with pytest.raises(ValueError, match="row 1: the text has 1 of at least 2 tokens"):
        plain_text_rows(chat, ["how are", "you"])
    with pytest.raises(ValueError, match="row 0: the text has 0"):
        plain_text_rows(chat, [""])
    with pytest.raises(ValueError, match="row 1 is a list"):
        plain_text_rows(chat, ["how are", ["you", "am"]])
    with pytest.raises(ValueError, match="single text"):
        plain_text_rows(chat, "how are you")
    with pytest.raises(ValueError, match="max_length is 1"):
        plain_text_rows(chat, ["how are you"], max_length=1)
    with pytest.raises(ValueError, match="no texts"):
        plain_text_rows(chat, [])
