"""Where prompts and responses begin and end, with and without a chat template."""

import pytest

from mopref.llm.data.chat_template import PairTokenizer

QUESTION, ANSWER = "How are you?", "So am I."


def lay_out(tokenizer, prompt=QUESTION, response=ANSWER):
    """Ids of a prompt and of a response to it."""
    pairs = PairTokenizer(tokenizer)
    return pairs.prompt_ids(prompt), pairs.response_ids(response, 512, not isinstance(prompt, str))


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def test_chat_template_and_its_end_of_turn(chat):
    prompt, response = lay_out(chat)
    assert chat.decode(prompt) == "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    assert chat.decode(response) == "So am I.<|im_end|>"
    assert chat.decode(lay_out(chat, response="Fine")[1]) == "Fine<|im_end|>"
    assert all(type(index) is int for index in prompt + response)


def test_chat_messages_equal_text(chat):
    assert lay_out(chat, [user(QUESTION)], [assistant(ANSWER)]) == lay_out(chat)


def test_whole_sequence_is_what_the_template_renders(chat):
    prompt, response = lay_out(chat)
    dialogue = chat.apply_chat_template([user(QUESTION), assistant(ANSWER)], tokenize=False)
    assert chat.decode(prompt + response) + "\n" == dialogue


def test_several_messages_of_a_response_are_parted_by_a_blank_line(chat):
    messages = [assistant("So"), assistant("am I.")]
    assert chat.decode(lay_out(chat, response=messages)[1]) == "So\n\nam I.<|im_end|>"


def test_end_of_turn_is_the_templates_not_the_end_of_sequence(make_byte_tokenizer):
    pairs = PairTokenizer(make_byte_tokenizer("chat", additional_special_tokens=["<|im_end|>"]))
    assert pairs.tokenizer.convert_ids_to_tokens(pairs.end_of_turn) == ["<|im_end|>"]


def test_text_the_template_puts_before_an_answer_belongs_to_the_response(make_byte_tokenizer):
    tokenizer = make_byte_tokenizer(
        "{% for message in messages %}{% if message['role'] == 'user' %}Q: {{ message['content'] }} A:"
        "{% else %}{{ ' ' + message['content'] + '</s>' }}{% endif %}{% endfor %}"
    )
    prompt, response = lay_out(tokenizer)
    assert tokenizer.decode(prompt) == "Q: How are you? A:"
    assert tokenizer.decode(response) == " So am I.</s>"


def test_template_whose_prompt_is_no_prefix_falls_back_to_end_of_sequence(make_byte_tokenizer):
    tokenizer = make_byte_tokenizer(
        "{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% else %}<|im_end|>{% endif %}"
    )
    assert tokenizer.decode(lay_out(tokenizer)[1]) == "So am I.</s>"


def test_without_template(plain, make_byte_tokenizer):
    prompt, response = lay_out(plain)
    assert plain.decode(prompt) == "<s>How are you?"
    assert plain.decode(response) == "So am I.</s>"
    assert make_byte_tokenizer(bos_token=None).decode(lay_out(make_byte_tokenizer())[0]) == "How are you?"


def test_without_template_tokens_do_not_cross_the_border(plain):
    prompt, _ = lay_out(plain)
    together = plain(QUESTION + ANSWER)["input_ids"]
    assert together[: len(prompt)] != prompt, "the tokenizer should merge across the border"


def test_without_template_chat_messages_are_laid_out(plain):
    messages = [user("Hi"), assistant("Yo"), user("?")]
    for answer in ("Ok", [assistant("Ok")]):
        prompt, response = lay_out(plain, messages, answer)
        text = plain.decode(prompt + response)
        assert text == "<s>\n\nHuman: Hi\n\nAssistant: Yo\n\nHuman: ?\n\nAssistant: Ok</s>"


def test_no_way_to_end_a_response(make_byte_tokenizer):
    tokenizer = make_byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="neither an end-of-turn token"):
        PairTokenizer(tokenizer)


def test_a_truncated_prompt_keeps_its_end_and_its_beginning_token(chat, plain):
    for tokenizer, beginning in ((chat, []), (plain, [plain.bos_token_id])):
        pairs = PairTokenizer(tokenizer)
        ids = pairs.prompt_ids("tell me more")
        for limit in range(1, len(ids)):
            last = ids[len(ids) - (limit - len(beginning)) :]
            assert pairs.truncate_prompt(ids, limit) == (beginning + last)[:limit]
        assert pairs.truncate_prompt(ids, len(ids)) == ids


def test_a_response_of_no_tokens_has_no_end_either(chat, plain):
    for tokenizer in (chat, plain):
        assert PairTokenizer(tokenizer).response_ids("", 512) == []


def test_a_pair_tokenizer_is_not_made_again(chat):
    pairs = PairTokenizer.of(chat)
    assert pairs.tokenizer is chat
    assert PairTokenizer.of(pairs) is pairs
