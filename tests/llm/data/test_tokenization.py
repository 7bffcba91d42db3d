import copy

import pytest
from hypothesis import given, strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mopref.llm.data.tokenization import PairTokenizer, tokenize_pair, tokenize_records

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OBJECTIVES = ("helpful", "harmless")


def make(template=None, **special):
    """A byte-level tokenizer whose merges cross the border of prompt and response if both are tokenised together."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["How are you?So am I.", "you?So you?So", "assistant user system"] * 3, trainer)
    if special.get("bos_token"):
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **{"eos_token": "</s>", **special})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def chat():
    return make(CHATML, eos_token="<|im_end|>")


@pytest.fixture(scope="module")
def plain():
    return make(bos_token="<s>")


def record(prompt="How are you?", first="So am I.", second="Fine", **labels):
    return {"prompt": prompt, "response_0": first, "response_1": second, "helpful": 0, "harmless": 1, **labels}


def test_chat_template_and_its_end_of_turn(chat):
    ids = tokenize_pair(chat, record())
    assert chat.decode(ids["prompt_ids"]) == "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    assert chat.decode(ids["response_0_ids"]) == "So am I.<|im_end|>"
    assert chat.decode(ids["response_1_ids"]) == "Fine<|im_end|>"
    assert all(type(index) is int for column in ids.values() for index in column)


def test_chat_messages_equal_text(chat):
    messages = record([{"role": "user", "content": "How are you?"}], [{"role": "assistant", "content": "So am I."}])
    assert tokenize_pair(chat, messages) == tokenize_pair(chat, record())


def test_whole_sequence_is_what_the_template_renders(chat):
    ids = tokenize_pair(chat, record())
    dialogue = [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "So am I."}]
    whole = chat.apply_chat_template(dialogue, tokenize=False)
    assert chat.decode(ids["prompt_ids"] + ids["response_0_ids"]) + "\n" == whole


def test_end_of_turn_is_the_templates_not_the_end_of_sequence():
    pairs = PairTokenizer(make(CHATML, additional_special_tokens=["<|im_end|>"]))
    assert pairs.tokenizer.convert_ids_to_tokens(pairs.end_of_turn) == ["<|im_end|>"]


def test_text_the_template_puts_before_an_answer_belongs_to_the_response():
    template = (
        "{% for message in messages %}{% if message['role'] == 'user' %}Q: {{ message['content'] }} A:"
        "{% else %}{{ ' ' + message['content'] + '</s>' }}{% endif %}{% endfor %}"
    )
    tokenizer = make(template)
    ids = tokenize_pair(tokenizer, record())
    assert tokenizer.decode(ids["prompt_ids"]) == "Q: How are you? A:"
    assert tokenizer.decode(ids["response_0_ids"]) == " So am I.</s>"


def test_template_whose_prompt_is_no_prefix_falls_back_to_end_of_sequence():
    template = (
        "{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% else %}<|im_end|>{% endif %}"
    )
    tokenizer = make(template)
    assert tokenizer.decode(tokenize_pair(tokenizer, record())["response_0_ids"]) == "So am I.</s>"


def test_without_template(plain):
    ids = tokenize_pair(plain, record())
    assert plain.decode(ids["prompt_ids"]) == "<s>How are you?"
    assert plain.decode(ids["response_0_ids"]) == "So am I.</s>"
    assert make(bos_token=None).decode(tokenize_pair(make(), record())["prompt_ids"]) == "How are you?"


def test_without_template_tokens_do_not_cross_the_border(plain):
    ids = tokenize_pair(plain, record())
    together = plain("How are you?So am I.")["input_ids"]
    assert together[: len(ids["prompt_ids"])] != ids["prompt_ids"], "the tokenizer should merge across the border"


def test_without_template_chat_messages_are_laid_out(plain):
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"},
        {"role": "user", "content": "?"},
    ]
    for answer in ("Ok", [{"role": "assistant", "content": "Ok"}]):
        ids = tokenize_pair(plain, record(messages, answer))
        text = plain.decode(ids["prompt_ids"] + ids["response_0_ids"])
        assert text == "<s>\n\nHuman: Hi\n\nAssistant: Yo\n\nHuman: ?\n\nAssistant: Ok</s>"


def test_no_way_to_end_a_response():
    tokenizer = make()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="neither an end-of-turn token"):
        PairTokenizer(tokenizer)


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
    with pytest.warns(UserWarning, match="left out 1 of 2 rows"):
        kept = tokenize_records(chat, rows, OBJECTIVES, 40, on_long_prompt="drop")
    assert [row["labels"] for row in kept] == [[1, 1]]
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
