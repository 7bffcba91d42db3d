"""Tokenizers that tokenise real characters or whole words, with and without a chat template."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

WORDS = ["how", "are", "you", "so", "am", "i", "fine"]
BYTE_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORD_TEMPLATE = (
    "{% for message in messages %}<turn> {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<turn> {% endif %}"
)

# Zephyr's way: turn names as plain text, and a line break before what is said.
LINE_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# Llama 2's way: blanks around the answer, the second one before its end.
BRACKET_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] + "
    "' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
SENTENCES = ["Why do cats purr ? Because they are calm . How are you so am I fine question answer user assistant"] * 3


def _sentence_piece_parts(kind):
    """Model, normaliser, pre-tokenizer and decoder of a tokenizer that marks where words start."""
    spaces = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    model = models.BPE(unk_token="<unk>", byte_fallback=True)
    if kind == "prepend":
        return model, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, spaces
    if kind == "prefix space":
        return (
            models.BPE(unk_token="<unk>"),
            None,
            pre_tokenizers.ByteLevel(add_prefix_space=True),
            decoders.ByteLevel(),
        )
    if kind == "unigram":
        lines_as_blanks = normalizers.Replace("\n", " ")
        return (
            models.Unigram(),
            lines_as_blanks,
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            decoders.Metaspace(),
        )
    return model, None, pre_tokenizers.Metaspace(prepend_scheme=kind, split=False), spaces


@pytest.fixture(scope="session")
def make_sentence_piece_tokenizer():
    """Factory of tokenizers that mark where words start, and so the beginning of whatever they are given.

    The kinds are Metaspace's schemes "always", "first" and "never", the older "prepend", "prefix space" and "unigram".
    """

    def make(kind, template=None):
        model, normalizer, pre_tokenizer, decoder = _sentence_piece_parts(kind)
        core = Tokenizer(model)
        if normalizer is not None:
            core.normalizer = normalizer
        if pre_tokenizer is not None:
            core.pre_tokenizer = pre_tokenizer
        core.decoder = decoder
        special = ["<unk>", "<s>", "</s>"]
        if kind == "unigram":
            trainer = trainers.UnigramTrainer(
                vocab_size=150,
                special_tokens=special,
                unk_token="<unk>",
                initial_alphabet=[chr(code) for code in range(33, 127)],
                show_progress=False,
            )
        else:
            bytes_as_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
            trainer = trainers.BpeTrainer(
                vocab_size=700,
                special_tokens=[*special, *bytes_as_tokens],
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if kind == "prefix space" else list("[]/|<>:.?%0"),
                show_progress=False,
            )
        core.train_from_iterator(SENTENCES, trainer)
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        tokenizer.chat_template = {"line": LINE_TEMPLATE, "bracket": BRACKET_TEMPLATE}.get(template, template)
        return tokenizer

    return make


@pytest.fixture(scope="session")
def make_byte_tokenizer():
    """Factory of byte-level tokenizers whose merges cross the border of prompt and response tokenised together.

    The template "chat" stands for one with a start and an end of turn.
    """

    def make(template=None, **special):
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
        tokenizer.chat_template = BYTE_TEMPLATE if template == "chat" else template
        return tokenizer

    return make


@pytest.fixture(scope="session")
def chat(make_byte_tokenizer):
    return make_byte_tokenizer("chat", eos_token="<|im_end|>")


@pytest.fixture(scope="session")
def plain(make_byte_tokenizer):
    return make_byte_tokenizer(bos_token="<s>")


@pytest.fixture(scope="session")
def make_word_tokenizer():
    """Factory of word-level tokenizers; the template "chat" stands for one with a start and an end of turn.

    Those are special tokens, or ordinary entries of the vocabulary where they are named as ``markers``.
    """

    def make(template=None, adds_beginning=False, markers=()):
        special = ["<s>", "</s>", "<turn>", "<end>", "<unk>"]
        words = [*special, *(marker for marker in markers if marker not in special), *WORDS]
        vocabulary = {word: index for index, word in enumerate(words)}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        if adds_beginning:
            core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        if not markers:
            tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<end>"]})
        tokenizer.chat_template = WORD_TEMPLATE if template == "chat" else template
        return tokenizer

    return make


@pytest.fixture(scope="session")
def word_chat(make_word_tokenizer):
    return make_word_tokenizer("chat")
