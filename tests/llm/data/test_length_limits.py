"""How long prompts and responses may be."""

import pytest

from mopref.llm.data.length_limits import LengthLimits, prompt_ids_in_row


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


def test_a_prompt_that_is_refused_is_named_by_its_row(word_chat):
    assert prompt_ids_in_row(word_chat_pairs(word_chat), "how are you", 3)
    with pytest.raises(ValueError, match="row 3: the prompt holds"):
        prompt_ids_in_row(word_chat_pairs(word_chat), "how <end> you", 3)


def word_chat_pairs(tokenizer):
    from mopref.llm.data.chat_template import PairTokenizer

    return PairTokenizer(tokenizer)
