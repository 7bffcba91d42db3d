"""Records in a table become rows in a table: the same as of a list, made once, and anew where anything differs."""

import os

import pytest
from datasets import Dataset

from mopref.llm.data import tokenize_prompts, tokenize_records, tokenize_responses, tokenize_unpaired
from mopref.llm.data.chat_template import PairTokenizer

NAMES = ("helpful", "harmless")
RECORDS = [
    {"prompt": "how are you", "response_0": "so am i", "response_1": "fine", "helpful": 0, "harmless": -1},
    {"prompt": "are you fine", "response_0": "i am", "response_1": "so so so so so", "helpful": 1, "harmless": 0},
    {"prompt": "you " * 7, "response_0": "fine", "response_1": "i", "helpful": 1, "harmless": 1},
    {"prompt": "how", "response_0": "fine fine", "response_1": "fine fine", "helpful": 1, "harmless": 1},
] * 300
ANSWERS = [{"prompt": row["prompt"], "response": row["response_0"], "helpful": 1, "harmless": -1} for row in RECORDS]
STYLES = [{**row, "dimension": ["helpful"] if place % 2 else list(NAMES)} for place, row in enumerate(ANSWERS)]

pytestmark = pytest.mark.filterwarnings("ignore:.*ends a turn with:UserWarning")


@pytest.fixture
def tokenised(monkeypatch):
    """How many prompts were tokenised."""
    count = []
    original = PairTokenizer.prompt_ids

    def counting(self, prompt):
        if prompt != "question":  # With which the template is asked.
            count.append(prompt)
        return original(self, prompt)

    monkeypatch.setattr(PairTokenizer, "prompt_ids", counting)
    return count


def plain(rows):
    return [{name: list(value) if isinstance(value, tuple) else value for name, value in row.items()} for row in rows]


def told(caught):
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("kind", [None, "numpy"])
def test_rows_of_pairs_and_what_is_told_of_them_are_those_of_a_list_and_found_again(
    word_chat, tmp_path, tokenised, kind
):
    limits = {"max_prompt_length": 9, "max_response_length": 3, "on_long_prompt": "drop"}
    with pytest.warns(UserWarning, match="left out 300 of 1200") as expected_told:
        expected = tokenize_records(word_chat, RECORDS, NAMES, **limits)
    assert len(expected) == 900
    records = Dataset.from_list(RECORDS).with_format(kind)
    tokenised.clear()
    for count in (len(RECORDS), 0):
        with pytest.warns(UserWarning, match="left out 300 of 1200") as again_told:
            rows = tokenize_records(word_chat, records, NAMES, cache_dir=tmp_path, **limits)
        assert isinstance(rows, Dataset)
        assert rows.cache_files
        assert plain(rows) == plain(expected)
        assert told(again_told) == told(expected_told)
        assert len(tokenised) == count
        tokenised.clear()
    assert (
        sum("left out 300 of 1200" in line or "300 of 900 rows are labelled" in line for line in told(again_told)) == 2
    )


@pytest.mark.parametrize(
    "tokenize",
    [
        lambda tokenizer, records, **where: tokenize_unpaired(tokenizer, records(ANSWERS), NAMES, **where),
        lambda tokenizer, records, **where: tokenize_responses(tokenizer, records(STYLES), NAMES, **where),
        lambda tokenizer, records, **where: tokenize_prompts(
            tokenizer, records(RECORDS) if where else [record["prompt"] for record in RECORDS], **where
        ),
    ],
    ids=["unpaired", "responses", "prompts"],
)
def test_rows_of_other_kinds_are_those_of_a_list(word_chat, tmp_path, tokenize, tokenised):
    rows = tokenize(word_chat, Dataset.from_list, cache_dir=tmp_path)
    assert isinstance(rows, Dataset)
    assert plain(rows) == plain(tokenize(word_chat, lambda records: records))
    tokenised.clear()
    assert plain(tokenize(word_chat, Dataset.from_list, cache_dir=tmp_path)) == plain(rows)
    assert not tokenised


def test_dialogues_stay_dialogues(word_chat, tmp_path):
    prompts = [{"prompt": [{"role": "user", "content": text}]} for text in ("how", "are you")]
    rows = tokenize_prompts(word_chat, Dataset.from_list(prompts), cache_dir=tmp_path)
    assert list(rows) == tokenize_prompts(word_chat, [prompt["prompt"] for prompt in prompts])


def changed(place, **columns):
    records = [dict(record) for record in RECORDS]
    records[place] |= columns
    return Dataset.from_list(records)


def test_whatever_differs_is_made_anew(word_chat, make_word_tokenizer, tmp_path, tokenised):
    table, options = Dataset.from_list(RECORDS), {"cache_dir": tmp_path}
    other_template = make_word_tokenizer("chat")
    other_template.chat_template = other_template.chat_template.replace("<turn> {{", "<turn> so {{")
    other_words = make_word_tokenizer("chat")
    other_words.add_tokens(["how are"])
    uses = {
        "the first": lambda: tokenize_records(word_chat, table, NAMES, **options),
        "a text": lambda: tokenize_records(word_chat, changed(700, response_1="am i"), NAMES, **options),
        "a label": lambda: tokenize_records(word_chat, changed(1199, helpful=0), NAMES, **options),
        "the order of rows": lambda: tokenize_records(word_chat, table.select(range(1199, -1, -1)), NAMES, **options),
        "fewer rows": lambda: tokenize_records(word_chat, table.select(range(1199)), NAMES, **options),
        "the order of names": lambda: tokenize_records(word_chat, table, NAMES[::-1], **options),
        "a limit": lambda: tokenize_records(word_chat, table, NAMES, 513, **options),
        "another template": lambda: tokenize_records(other_template, table, NAMES, **options),
        "another vocabulary": lambda: tokenize_records(other_words, table, NAMES, **options),
        "another kind": lambda: tokenize_prompts(word_chat, table, **options),
    }
    for place, (name, use) in enumerate(uses.items()):
        tokenised.clear()
        use()
        assert tokenised, f"{name} was found, and is not there"
        assert len(os.listdir(tmp_path / "rows")) == place + 1
    for use in uses.values():
        tokenised.clear()
        use()
        assert not tokenised


def test_a_template_that_writes_the_time_is_never_found_at_another_one(make_word_tokenizer, tmp_path, tokenised):
    template = (
        "{{ strftime_now('%H') }} {% for message in messages %}<turn> {{ message['content'] }} <end> {% endfor %}"
        "{% if add_generation_prompt %}<turn> {% endif %}"
    )
    table = Dataset.from_list(RECORDS[:2])
    with pytest.warns(UserWarning, match="date"):
        first = tokenize_records(make_word_tokenizer(template), table, NAMES, cache_dir=tmp_path)
    tokenised.clear()
    with pytest.warns(UserWarning, match="date"):
        pairs = PairTokenizer(make_word_tokenizer(template))
    pairs._template = pairs._template.replace("set", "set ", 1) + "{# later #}"
    tokenize_records(pairs, table, NAMES, cache_dir=tmp_path)
    assert tokenised
    assert len(first) == 2


def test_a_record_that_is_refused_is_named_and_nothing_is_kept(word_chat, tmp_path):
    with pytest.raises(ValueError, match="row 700, column 'response_1' is empty"):
        tokenize_records(word_chat, changed(700, response_1=" "), NAMES, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="row 700: the prompt has 17 tokens, but max_prompt_length is 12"):
        tokenize_records(word_chat, changed(700, prompt="so " * 14), NAMES, 12, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="all 1200 prompts are longer"):
        tokenize_records(word_chat, Dataset.from_list(RECORDS), NAMES, 1, on_long_prompt="drop", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="row 3: the prompt is empty"):
        tokenize_prompts(word_chat, changed(3, prompt=""), cache_dir=tmp_path)
    assert not (tmp_path / "rows").exists() or os.listdir(tmp_path / "rows") == []


def test_what_was_interrupted_is_made_anew(word_chat, tmp_path, monkeypatch):
    original, calls = PairTokenizer.prompt_ids, []

    def interrupted(self, prompt):
        calls.append(prompt)
        if len(calls) == 1100:
            raise KeyboardInterrupt
        return original(self, prompt)

    monkeypatch.setattr(PairTokenizer, "prompt_ids", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tokenize_records(word_chat, Dataset.from_list(RECORDS), NAMES, cache_dir=tmp_path)
    assert os.listdir(tmp_path / "rows") == []
    monkeypatch.undo()
    rows = tokenize_records(word_chat, Dataset.from_list(RECORDS), NAMES, cache_dir=tmp_path)
    assert plain(rows) == plain(tokenize_records(word_chat, RECORDS, NAMES))


def test_a_tokenizer_that_cannot_be_told_is_refused(word_chat, tmp_path):
    class Mine:
        chat_template, eos_token_id, bos_token_id = None, 1, None
        added_tokens_decoder, all_special_ids = {}, []

        def __call__(self, text, **options):
            return word_chat(text, **options)

        def decode(self, ids, **options):
            return word_chat.decode(ids, **options)

    pairs = PairTokenizer(word_chat)
    pairs.tokenizer = Mine()
    with pytest.raises(TypeError, match=r"no save_pretrained: .*give one of transformers, or the records as a list"):
        tokenize_records(pairs, Dataset.from_list(RECORDS), NAMES, cache_dir=tmp_path)


def test_a_data_set_with_a_transform_is_gone_through_as_a_list(word_chat, tmp_path):
    shouting = Dataset.from_list(RECORDS[:4]).with_transform(
        lambda batch: {**batch, "prompt": ["so " + text for text in batch["prompt"]]}
    )
    rows = tokenize_records(word_chat, shouting, NAMES, cache_dir=tmp_path)
    assert isinstance(rows, list)
    assert rows == tokenize_records(
        word_chat, [{**record, "prompt": "so " + record["prompt"]} for record in RECORDS[:4]], NAMES
    )
