"""Turn preference records into token ids, once, so that the prompt's ids are exactly the start of the whole sequence's.

Prompt and response are tokenised apart and their ids put one after the other. Tokenising prompt + response in one go
may merge characters across the border, and then the prompt's ids are no prefix and the response's log-probability is
taken over the wrong tokens. At generation time, too, the model continues the prompt's own ids, so this is the sequence
it would produce.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from tqdm import tqdm

from mopref.llm.records import check_objectives, validate_records

__all__ = ["PairTokenizer", "tokenize_pair", "tokenize_records"]

OnLongPrompt = Literal["error", "truncate", "drop"]

# Stands for a response when the template is asked what it puts around one.
_PROBE = "PROBE"


class PairTokenizer:
    r"""Tokenises prompts and responses the way one tokenizer's chat template lays them out.

    With a chat template a prompt is rendered up to the point where the assistant speaks, and a response is its text
    followed by the template's own end-of-turn token (what the template puts around a response is read off once, from a
    rendered example; a template whose prompt is no prefix of the whole dialogue gets the tokenizer's end-of-sequence
    token instead). A text prompt is one user message.

    Without a chat template a prompt is its text, after a beginning-of-sequence token if the tokenizer adds one, and a
    response its text followed by the end-of-sequence token; chat messages are laid out as ``\n\nHuman: …
    \n\nAssistant: …``. Nothing is put between a text prompt and a response: end the prompt the way the model expects.

    A response that consists of several assistant messages is their contents, a blank line between them. Raises
    ValueError if the tokenizer has neither an end-of-turn nor an end-of-sequence token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        self.beginning: list[int] = []
        self.response_start = ""
        end = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        if self.has_template:
            self.response_start, end = self._read_template(end)
        elif tokenizer.bos_token_id is not None and list(tokenizer("a")["input_ids"])[:1] == [tokenizer.bos_token_id]:
            self.beginning = [int(tokenizer.bos_token_id)]
        if not end:
            raise ValueError(
                "the tokenizer has neither an end-of-turn token in its chat template nor an end-of-sequence token, so "
                "a response could not be ended; set tokenizer.eos_token"
            )
        self.end_of_turn = end

    def prompt_ids(self, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a whole prompt, from the beginning of the sequence up to where the response starts."""
        if self.has_template:
            return self._ids(self._render(_messages(prompt, "user"), add_generation_prompt=True))
        return self.beginning + self._ids(prompt if isinstance(prompt, str) else _plain_dialogue(prompt))

    def response_ids(
        self, response: str | Sequence[Mapping[str, str]], limit: int, after_messages: bool = False
    ) -> list[int]:
        """Return the ids of a response with its end-of-turn token, at most ``limit`` of them.

        A longer response is cut on the right and has no end-of-turn token, since it does not end there. Empty if the
        text has no tokens. ``after_messages`` says that the prompt is chat messages: without a chat template a blank
        then parts the response from ``Assistant:``.
        """
        text = response if isinstance(response, str) else "\n\n".join(message["content"] for message in response)
        start = " " if after_messages and not self.has_template else self.response_start
        ids = self._ids(start + (text.lstrip() if start == " " else text))
        if len(ids) == len(self._ids(start)):
            return []
        return (ids + self.end_of_turn)[:limit]

    def truncate_prompt(self, ids: list[int], limit: int) -> list[int]:
        """Return the last ``limit`` ids, behind the beginning-of-sequence token if the tokenizer adds one itself."""
        if len(ids) <= limit:
            return ids
        kept = max(limit - len(self.beginning), 0)
        return (self.beginning + ids[len(ids) - kept :])[:limit]

    def _ids(self, text: str) -> list[int]:
        return [int(index) for index in self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        )

    def _read_template(self, end_of_sequence: list[int]) -> tuple[str, list[int]]:
        """Return the text the template puts before a response and the ids it ends one with."""
        user, answer = {"role": "user", "content": "question"}, {"role": "assistant", "content": _PROBE}
        prompt = self._render([user], add_generation_prompt=True)
        whole = self._render([user, answer], add_generation_prompt=False)
        if not whole.startswith(prompt) or whole[len(prompt) :].count(_PROBE) != 1:
            return "", end_of_sequence
        start, end = whole[len(prompt) :].split(_PROBE)
        ids = self._ids(end)
        # The turn is over at the first special token; what follows (a line break, say) opens the next turn and is never
        # generated.
        for position, index in enumerate(ids):
            if self._is_special(index):
                return start, ids[: position + 1]
        return start, end_of_sequence

    def _is_special(self, index: int) -> bool:
        added = self.tokenizer.added_tokens_decoder.get(index)
        return index in self.tokenizer.all_special_ids or bool(added is not None and added.special)


def tokenize_pair(
    tokenizer: Any,
    record: Mapping[str, Any],
    max_prompt_length: int = 512,
    max_response_length: int = 512,
    on_long_prompt: Literal["error", "truncate"] = "error",
    row: int = 0,
) -> dict[str, list[int]]:
    """Return ``prompt_ids``, ``response_0_ids`` and ``response_1_ids`` of one record; see `tokenize_records`.

    ``tokenizer`` is a transformers tokenizer or a `PairTokenizer`, which saves reading the chat template again; ``row``
    is the number that messages name.
    """
    _check_limits(max_prompt_length, max_response_length, on_long_prompt, ("error", "truncate"))
    pairs = tokenizer if isinstance(tokenizer, PairTokenizer) else PairTokenizer(tokenizer)
    ids = _pair_ids(pairs, record, max_prompt_length, max_response_length, on_long_prompt, row)
    assert ids is not None, "only 'drop' leaves a record out"
    return ids


def tokenize_records(
    tokenizer: Any,
    records: Iterable[Mapping[str, Any]],
    objectives: Sequence[str],
    max_prompt_length: int = 512,
    max_response_length: int = 512,
    on_long_prompt: OnLongPrompt = "error",
    progress: bool = False,
) -> list[dict[str, list[int]]]:
    """Return one row of token ids per record: ``prompt_ids``, ``response_0_ids``, ``response_1_ids`` and ``labels``.

    ``labels`` holds the record's label (0, 1 or −1) for each objective, in the order of ``objectives``. Lengths are in
    tokens. A prompt longer than ``max_prompt_length`` is an error, is cut on the left (its last tokens stay), or its
    row is left out with a warning, as ``on_long_prompt`` says. A response is cut on the right and is never empty.
    Raises ValueError, naming the row, for records that `mopref.llm.records.validate_records` refuses, for too long
    prompts and for responses without tokens; and if no row is left.
    """
    _check_limits(max_prompt_length, max_response_length, on_long_prompt, ("error", "truncate", "drop"))
    names = check_objectives(objectives)
    # The records are gone through twice, which an iterator would not survive.
    if not hasattr(records, "__len__"):
        records = list(records)
    validate_records(records, names)
    pairs = tokenizer if isinstance(tokenizer, PairTokenizer) else PairTokenizer(tokenizer)
    rows: list[dict[str, list[int]]] = []
    dropped = 0
    for number, record in enumerate(tqdm(records, desc="tokenising", unit="pair", disable=not progress, leave=False)):
        ids = _pair_ids(pairs, record, max_prompt_length, max_response_length, on_long_prompt, number)
        if ids is None:
            dropped += 1
        else:
            rows.append({**ids, "labels": [int(record[name]) for name in names]})
    if not rows:
        raise ValueError(
            f"all {dropped} prompts are longer than max_prompt_length = {max_prompt_length} tokens, so no row is left; "
            "raise the limit or set on_long_prompt to 'truncate'"
        )
    if dropped:
        warnings.warn(
            f"left out {dropped} of {dropped + len(rows)} rows whose prompt has more than {max_prompt_length} tokens",
            stacklevel=2,
        )
    return rows


def _pair_ids(
    pairs: PairTokenizer,
    record: Mapping[str, Any],
    max_prompt_length: int,
    max_response_length: int,
    on_long_prompt: OnLongPrompt,
    row: int,
) -> dict[str, list[int]] | None:
    """Return the ids of one record, None if its prompt is too long and such rows are dropped."""
    prompt = pairs.prompt_ids(record["prompt"])
    if len(prompt) > max_prompt_length:
        if on_long_prompt == "drop":
            return None
        if on_long_prompt == "error":
            raise ValueError(
                f"row {row}: the prompt has {len(prompt)} tokens, but max_prompt_length is {max_prompt_length}; raise "
                "the limit, or set on_long_prompt to 'truncate' (keeps the last tokens) or 'drop' (leaves the row out)"
            )
        prompt = pairs.truncate_prompt(prompt, max_prompt_length)
    if not prompt:
        raise ValueError(f"row {row}: the prompt has no tokens, so the response's first token has nothing to follow")
    result = {"prompt_ids": prompt}
    for column in ("response_0", "response_1"):
        ids = pairs.response_ids(record[column], max_response_length, not isinstance(record["prompt"], str))
        if not ids:
            raise ValueError(f"row {row}, column {column!r}: the response has no tokens; leave the row out")
        result[f"{column}_ids"] = ids
    return result


def _check_limits(
    max_prompt_length: int, max_response_length: int, on_long_prompt: str, allowed: Sequence[str]
) -> None:
    for name, value in (("max_prompt_length", max_prompt_length), ("max_response_length", max_response_length)):
        if value < 1:
            raise ValueError(f"{name} is {value}, but must be at least 1 token")
    if on_long_prompt not in allowed:
        raise ValueError(f"on_long_prompt is {on_long_prompt!r}, but must be one of {', '.join(map(repr, allowed))}")


def _messages(text: str | Sequence[Mapping[str, str]], role: str) -> list[dict[str, str]]:
    if isinstance(text, str):
        return [{"role": role, "content": text}]
    return [dict(message) for message in text]


def _plain_dialogue(messages: Sequence[Mapping[str, str]]) -> str:
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    turns = [f"\n\n{names.get(message['role'], message['role'])}: {message['content']}" for message in messages]
    return "".join([*turns, "\n\nAssistant:"])
