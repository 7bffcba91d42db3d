"""Tokenizers that tokenise real characters or whole words, with and without a chat template."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
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
    """Factory of word-level tokenizers; the template "chat" stands for one with a start and an end of turn."""

    def make(template=None, adds_beginning=False):
        vocabulary = {word: index for index, word in enumerate(["<s>", "</s>", "<turn>", "<end>", "<unk>", *WORDS])}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        if adds_beginning:
            core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
        tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>", "<end>"]})
        tokenizer.chat_template = WORD_TEMPLATE if template == "chat" else template
        return tokenizer

    return make


@pytest.fixture(scope="session")
def word_chat(make_word_tokenizer):
    return make_word_tokenizer("chat")
