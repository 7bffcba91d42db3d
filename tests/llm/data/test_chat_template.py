"""Where prompts and responses begin and end, with and without a chat template."""

import warnings
from datetime import datetime

import pytest
from tokenizers import AddedToken, Regex, normalizers

from mopref.llm.data.chat_template import PairTokenizer, refuse_no_tokenizer

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
    with pytest.warns(UserWarning, match=r"ends a turn with '<\|im_end\|>', but its eos_token is '</s>'"):
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
    with pytest.warns(UserWarning, match="renders a prompt in another way once it is answered"):
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


def test_a_response_of_no_tokens_behind_a_blank_has_no_end_either(make_byte_tokenizer):
    tokenizer = make_byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("Fine", "")
    pairs = PairTokenizer(tokenizer)
    assert pairs.response_ids("Fine", 9, after_messages=True) == []
    assert tokenizer.decode(pairs.response_ids("So", 9, after_messages=True)) == " So</s>"
    tokenizer.chat_template = "{% for m in messages %}<|im_start|> {{ m['content'] }} </s>{% endfor %}<|im_start|>"
    assert PairTokenizer(tokenizer).response_ids("Fine", 9) == []


def test_a_pair_tokenizer_is_not_made_again(chat):
    pairs = PairTokenizer.of(chat)
    assert pairs.tokenizer is chat
    assert PairTokenizer.of(pairs) is pairs


@pytest.mark.parametrize("kind", ["always", "first", "never", "prepend", "prefix space", "unigram"])
@pytest.mark.parametrize("template", ["line", "bracket"])
def test_prompt_and_response_are_the_dialogue_tokenised_in_one_go(make_sentence_piece_tokenizer, kind, template):
    tokenizer = make_sentence_piece_tokenizer(kind, template)
    dialogue = tokenizer.apply_chat_template([user(QUESTION), assistant(ANSWER)], tokenize=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prompt, response = lay_out(tokenizer)
    together = tokenizer(dialogue.rstrip(), add_special_tokens=False)["input_ids"]
    assert prompt + response == together
    assert lay_out(tokenizer, response=[assistant(ANSWER)])[1] == response


@pytest.mark.parametrize("kind", ["always", "first", "prepend", "prefix space", "unigram"])
def test_without_template_no_mark_is_put_before_a_response(make_sentence_piece_tokenizer, kind):
    tokenizer = make_sentence_piece_tokenizer(kind)
    prompt, response = lay_out(tokenizer)
    assert prompt + response == [*tokenizer(QUESTION + ANSWER)["input_ids"], tokenizer.eos_token_id]
    prompt, response = lay_out(tokenizer, [user(QUESTION)])
    dialogue = f"\n\nHuman: {QUESTION}\n\nAssistant: {ANSWER}"
    assert prompt + response == [*tokenizer(dialogue)["input_ids"], tokenizer.eos_token_id], "one blank, not two"


def test_a_response_of_one_token_after_a_blank_is_no_silence(make_byte_tokenizer):
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens([AddedToken("Yes", lstrip=True, normalized=False)])
    _, response = lay_out(tokenizer, [user(QUESTION)], "Yes")
    assert tokenizer.convert_ids_to_tokens(response) == ["Yes", "</s>"]


@pytest.mark.parametrize("special", [True, False], ids=["special", "not special"])
def test_an_added_token_ends_a_turn_special_or_not(make_byte_tokenizer, special):
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens([AddedToken("<|end|>", special=special, normalized=False)])
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    with pytest.warns(UserWarning, match=r"ends a turn with '<\|end\|>', but its eos_token is '</s>'"):
        assert tokenizer.decode(lay_out(tokenizer)[1]) == "So am I.<|end|>"


def test_a_marker_of_the_vocabulary_ends_a_turn(make_word_tokenizer):
    tokenizer = make_word_tokenizer("chat", markers=("<turn>", "<end>"))
    with pytest.warns(UserWarning, match="ends a turn with '<end>'"):
        pairs = PairTokenizer(tokenizer)
    assert tokenizer.convert_ids_to_tokens(pairs.end_of_turn) == ["<end>"]
    assert tokenizer.decode(pairs.response_ids("so am i", 9)) == "so am i <end>"


def test_a_marker_that_grows_together_with_the_response_stands_by_itself(make_word_tokenizer):
    template = (
        "{% for m in messages %}<turn> {{ m['content'] }}<end> {% endfor %}"
        "{% if add_generation_prompt %}<turn> {% endif %}"
    )
    tokenizer = make_word_tokenizer(template, markers=("<turn>", "<end>"))
    with pytest.warns(UserWarning, match="tokenised apart spell '.*<unk> <end>', but .* in one go as '.*<unk>'"):
        pairs = PairTokenizer(tokenizer)
    assert tokenizer.decode(pairs.response_ids("so am i", 9)) == "so am i <end>"


def test_an_end_that_takes_the_blank_before_it(make_byte_tokenizer):
    """As the dialogue in one go has it: the added token eats the blank that the response ends in."""
    tokenizer = make_byte_tokenizer(eos_token="</s>")
    tokenizer.add_tokens([AddedToken("<eats>", lstrip=True, special=True, normalized=False)])
    tokenizer.eos_token = "<eats>"
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['content'] }}<eats>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    together = tokenizer("<|im_start|>How<eats><|im_start|>So <eats>")["input_ids"]
    prompt, response = lay_out(tokenizer, "How", "So ")
    assert prompt + response == together
    assert tokenizer.decode(response) == "So<eats>"


def test_no_warning_where_the_template_ends_with_the_tokenizers_own_end(chat, plain):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PairTokenizer(chat)
        PairTokenizer(plain)


@pytest.mark.parametrize(
    "text",
    [
        "So.<|im_end|>",
        "So.<|im_end|>\n",
        "So.<|im_end|> \n\n",
        "So.<|im_end|><|im_end|>\n",
        "So.</s>",
        "So.<|im_end|></s>",
    ],
)
def test_a_response_that_ends_already_gets_no_second_end(make_byte_tokenizer, text):
    tokenizer = make_byte_tokenizer("chat")
    pairs = PairTokenizer(tokenizer)
    for response in (text, [assistant(text)]):
        assert pairs.response_problem(response) is None
        assert tokenizer.decode(pairs.response_ids(response, 99)) == "So.<|im_end|>"
    messages = [assistant("So"), assistant(text)]
    assert tokenizer.decode(pairs.response_ids(messages, 99)) == "So\n\nSo.<|im_end|>"


def test_an_end_of_sequence_that_begins_sequences_too(make_byte_tokenizer):
    tokenizer = make_byte_tokenizer("chat", bos_token="</s>")
    assert tokenizer.decode(PairTokenizer(tokenizer).response_ids("So.</s>", 99)) == "So.<|im_end|>"


def test_what_a_template_puts_before_the_end_is_not_put_twice(make_sentence_piece_tokenizer):
    pairs = PairTokenizer(make_sentence_piece_tokenizer("always", "bracket"))
    bare = pairs.response_ids(ANSWER, 99)
    assert pairs.response_ids(f"{ANSWER} </s>", 99) == pairs.response_ids(f"{ANSWER}</s>", 99) == bare


def test_a_response_keeps_the_white_space_it_has_without_an_end(chat):
    assert chat.decode(lay_out(chat, response="So.\n")[1]) == "So.\n<|im_end|>"


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "</s>", "<s>"])
def test_turn_tokens_within_a_response_are_a_problem(make_byte_tokenizer, token):
    pairs = PairTokenizer(make_byte_tokenizer("chat", bos_token="<s>"))
    for response in (f"So.{token}Not so.", [assistant(f"So.{token}"), assistant("Not so.")]):
        assert pairs.response_problem(response).startswith(f"holds '{token}', which opens or ends a turn")


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "</s>"])
def test_turn_tokens_within_a_prompt_are_a_problem_with_a_template_only(make_byte_tokenizer, token):
    pairs = PairTokenizer(make_byte_tokenizer("chat"))
    for prompt in (f"How?{token}", [user("How?"), assistant(f"So.{token}"), user("Why?")]):
        assert pairs.prompt_problem(prompt).startswith(f"holds '{token}', which opens or ends a turn")
    assert pairs.prompt_problem("How?") is None
    assert PairTokenizer(make_byte_tokenizer()).prompt_problem(f"How?{token}") is None, "laid out by its author"


def test_special_tokens_that_part_no_turns_are_texts(make_byte_tokenizer):
    tokenizer = make_byte_tokenizer("chat", eos_token="<|im_end|>", additional_special_tokens=["<filename>"])
    pairs = PairTokenizer(tokenizer)
    assert pairs.prompt_problem("run <filename>") is None
    assert pairs.response_problem("run <filename>!") is None


def test_the_unknown_token_parts_no_turns(word_chat):
    """The example by which the template is read has unknown words."""
    assert PairTokenizer(word_chat).response_problem("so <unk> i") is None
    assert PairTokenizer(word_chat).response_problem("so <turn> i").startswith("holds '<turn>'")


def test_tool_calls_need_a_template(chat, plain):
    prompt = [user("Now?"), {**assistant(""), "tool_calls": [{"name": "clock"}]}, user("So?")]
    assert PairTokenizer(plain).prompt_problem(prompt).startswith("holds 'tool_calls', which only a chat template can")
    assert PairTokenizer(chat).prompt_problem(prompt) is None


def test_a_beginning_that_a_text_has_already_is_not_put_twice(plain):
    assert PairTokenizer(plain).prompt_ids("<s>How are you?") == PairTokenizer(plain).prompt_ids("How are you?")


def test_a_template_that_refuses(make_byte_tokenizer):
    refusing = (
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system role') }}"
        "{% endif %}{{ message['content'] }}<|im_end|>{% endfor %}"
    )
    pairs = PairTokenizer(make_byte_tokenizer(refusing, eos_token="<|im_end|>"))
    with pytest.raises(ValueError, match=r"^is refused by the chat template \(TemplateError: no system role\)"):
        pairs.prompt_ids([{"role": "system", "content": "Be kind."}, user("Hi")])
    for broken in ("{{ raise_exception('never') }}", "{{ messages[7].content.x }}", "{% if %}"):
        with pytest.raises(ValueError, match="a question with its answer is refused by the chat template"):
            PairTokenizer(make_byte_tokenizer(broken))


def test_a_truncated_prompt_keeps_what_stands_before_its_last_message(make_byte_tokenizer):
    template = "{{ bos_token }}" + make_byte_tokenizer("chat").chat_template
    tokenizer = make_byte_tokenizer(template, eos_token="<|im_end|>", bos_token="<s>")
    pairs = PairTokenizer(tokenizer)
    prompt = [{"role": "system", "content": "So am I."}, user("12345 67890")]
    ids, text = (
        pairs.prompt_ids(prompt),
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False),
    )
    before, after = text.split("12345 67890")
    fixed = len(tokenizer(before, add_special_tokens=False)["input_ids"])
    fixed += len(tokenizer(after, add_special_tokens=False)["input_ids"])
    for limit in range(fixed + 1, len(ids)):
        cut = pairs.truncate_prompt(ids, limit, prompt)
        assert len(cut) == limit
        assert tokenizer.decode(cut) == before + "12345 67890"[fixed - limit :] + after
    for limit in range(1, fixed + 1):
        assert pairs.truncate_prompt(ids, limit, prompt) == [ids[0], *ids[len(ids) - limit + 1 :]]
    assert pairs.truncate_prompt(ids, len(ids), prompt) == ids


def test_prompt_and_response_that_spell_something_else_are_told(make_byte_tokenizer):
    """A tokenizer that reads a letter, a line break and a capital letter as one."""
    tokenizer = make_byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace(Regex("n\nP"), "-")
    with pytest.warns(UserWarning, match=r"apart spell 'question\\nPROBE</s>', but .* in one go as 'questio-ROBE</s>'"):
        PairTokenizer(tokenizer)


def test_a_response_is_trimmed_where_the_template_trims(chat, make_byte_tokenizer):
    template = chat.chat_template.replace("message['content']", "(message['content'] | trim)")
    tokenizer = make_byte_tokenizer(template, eos_token="<|im_end|>")
    for response in ("So am I.", " So am I.\n", "\n\tSo am I. <|im_end|>\n", [assistant(" So am I. ")]):
        prompt, ids = lay_out(tokenizer, response=response)
        rendered = tokenizer.apply_chat_template([user(QUESTION), assistant(ANSWER)], tokenize=False)
        assert tokenizer.decode(prompt + ids) + "\n" == rendered
    assert chat.decode(lay_out(chat, response=" So am I.\n")[1]) == " So am I.\n<|im_end|>", "another does not"


@pytest.mark.parametrize("change", ["escape", "lower", "tojson", "replace('\\n', ' ')"])
def test_a_template_that_changes_contents_otherwise_is_told(make_byte_tokenizer, change):
    template = (
        "{% for m in messages %}<|im_start|>{{ (m['content'] | CHANGE) if '<' in m['content'] else m['content'] }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
    ).replace("CHANGE", change)
    with pytest.warns(UserWarning, match="changes what a response says, by more than its outer white space"):
        PairTokenizer(make_byte_tokenizer(template, eos_token="<|im_end|>"))


def test_a_template_that_takes_no_such_contents_is_no_reason_to_stop(make_byte_tokenizer):
    template = (
        "{% for m in messages %}{% if '<' in m['content'] %}{{ raise_exception('brackets') }}{% endif %}"
        "<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    tokenizer = make_byte_tokenizer(template, eos_token="<|im_end|>")
    assert tokenizer.decode(lay_out(tokenizer)[1]) == "So am I.<|im_end|>"


class Calendar:
    """A clock that shows the next day at every look."""

    days = 0

    @classmethod
    def now(cls):
        cls.days += 1
        return datetime(2026, 11, cls.days)


CLOCK = "<|im_start|>{{ strftime_now('%d %b %Y') }}<|im_end|>"


@pytest.mark.parametrize(
    "before",
    [
        CLOCK,
        '{% set date = strftime_now("%H:%M") %}<|im_start|>{{ date }}<|im_end|>',
        f"{{% if messages[0]['role'] == 'system' %}}{CLOCK}{{% endif %}}",
        "{% set style = '%d' %}<|im_start|>{{ strftime_now(style) }}<|im_end|>",
    ],
    ids=["always", "time", "with a system message", "a style by name"],
)
def test_a_template_that_writes_the_date_is_told(chat, make_byte_tokenizer, before):
    tokenizer = make_byte_tokenizer(before + chat.chat_template, eos_token="<|im_end|>")
    with pytest.warns(UserWarning, match="writes the date or time of now: .* Put a fixed date") as caught:
        PairTokenizer(tokenizer)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_the_date_is_the_same_in_all_rows(chat, make_byte_tokenizer, monkeypatch):
    """Also between a prompt and its dialogue, or the template would seem to render an answered prompt otherwise."""
    tokenizer = make_byte_tokenizer(CLOCK + chat.chat_template, eos_token="<|im_end|>")
    monkeypatch.setattr("mopref.llm.data.chat_template.datetime", Calendar)
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Calendar)
    with pytest.warns(UserWarning, match="writes the date"):
        pairs = PairTokenizer(tokenizer)
    first, second = (tokenizer.decode(pairs.prompt_ids(QUESTION)) for _ in range(2))
    assert first == second
    assert "01 Nov 2026" in first
    assert tokenizer.decode(pairs.response_ids(ANSWER, 99)) == "So am I.<|im_end|>"


def test_a_template_that_could_write_the_date_and_does_not(chat, make_byte_tokenizer):
    template = "{% if date is defined %}{{ strftime_now('%d') }}{% endif %}" + chat.chat_template
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PairTokenizer(make_byte_tokenizer(template, eos_token="<|im_end|>"))


def thinking_tokenizer(make_byte_tokenizer, opened, empty, special):
    """With a generation prompt that opens a block or not, and an empty block before an answer of none or not."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if EMPTY and m['role'] == 'assistant' and '</think>' "
        "not in m['content'] %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{{ '<think>\n' if OPENED else '' }}{% endif %}"
    )
    tokenizer = make_byte_tokenizer(
        template.replace("EMPTY", str(empty)).replace("OPENED", str(opened)), eos_token="<|im_end|>"
    )
    tokenizer.add_tokens([AddedToken(f"<{mark}think>", special=special, normalized=False) for mark in ("", "/")])
    return tokenizer


THOUGHT = "<think>\nSo.\n</think>\n\nYes."


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(("opened", "empty"), [(True, False), (True, True), (False, True)])
def test_a_dialogue_has_one_block_of_thoughts(make_byte_tokenizer, opened, empty, special):
    tokenizer = thinking_tokenizer(make_byte_tokenizer, opened, empty, special)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = PairTokenizer(tokenizer)
    for response in [THOUGHT, f"{THOUGHT}<|im_end|>", *([THOUGHT.removeprefix("<think>\n")] if opened else [])]:
        assert pairs.response_problem(response) is None
        text = tokenizer.decode(pairs.prompt_ids("Hi") + pairs.response_ids(response, 99))
        assert text == f"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n{THOUGHT}<|im_end|>"
    if empty:
        text = tokenizer.decode(pairs.prompt_ids("Hi") + pairs.response_ids("Yes.", 99))
        assert text == tokenizer.apply_chat_template([user("Hi"), assistant("Yes.")], tokenize=False).rstrip("\n")
        assert pairs.response_problem("Yes.") is None
    else:
        assert pairs.response_problem("Yes.").startswith("does not hold '</think>'")


def test_an_empty_block_that_an_answered_dialogue_lacks(make_byte_tokenizer):
    template = (
        "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|><think>\n\n</think>\n\n{% endif %}"
    )
    prompt, response = lay_out(tokenizer := make_byte_tokenizer(template, eos_token="<|im_end|>"))
    assert tokenizer.decode(prompt + response).endswith("<think>\n\n</think>\n\nSo am I.<|im_end|>")


@pytest.mark.parametrize("tokenizer", [len, print, str.split, lambda text: [1], "gpt2", str])
def test_a_function_is_no_tokenizer(tokenizer):
    with pytest.raises(TypeError, match=r"tokenizer is .*: give the tokenizer itself"):
        refuse_no_tokenizer(tokenizer)
