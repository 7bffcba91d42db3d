"""Turn records and texts into token ids, once, so that the prompt's ids are exactly the start of the whole sequence's.

Prompt and response are tokenised apart and their ids put one after the other. Tokenising prompt + response in one go
may merge characters across the border, and then the prompt's ids are no prefix and the response's log-probability is
taken over the wrong tokens. At generation time, too, the model continues the prompt's own ids, so this is the sequence
it would produce.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from tqdm import tqdm

from mopref.llm.data.records import check_objectives, text_problem, validate_records
from mopref.llm.data.response_records import check_dimensions, record_dimensions, validate_response_records

__all__ = [
    "PairTokenizer",
    "plain_text_rows",
    "tokenize_pair",
    "tokenize_prompts",
    "tokenize_records",
    "tokenize_responses",
]

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
    Raises ValueError, naming the row, for records that `mopref.llm.data.records.validate_records` refuses, for too long
    prompts and for responses without tokens; and if no row is left.
    """
    _check_limits(max_prompt_length, max_response_length, on_long_prompt, ("error", "truncate", "drop"))
    names = check_objectives(objectives)
    # The records are gone through twice, which an iterator would not survive.
    if not hasattr(records, "__len__"):
        records = list(records)
    validate_records(records, names)
    pairs = tokenizer if isinstance(tokenizer, PairTokenizer) else PairTokenizer(tokenizer)

    def make_row(record: Mapping[str, Any], number: int) -> dict[str, list[int]] | None:
        ids = _pair_ids(pairs, record, max_prompt_length, max_response_length, on_long_prompt, number)
        return None if ids is None else {**ids, "labels": [int(record[name]) for name in names]}

    return _kept_rows(make_row, records, max_prompt_length, progress)


def tokenize_responses(
    tokenizer: Any,
    records: Iterable[Mapping[str, Any]],
    dimensions: Sequence[str],
    max_prompt_length: int = 512,
    max_response_length: int = 512,
    on_long_prompt: OnLongPrompt = "error",
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Return one row per record for `mopref.objectives.SFT`: ``prompt_ids``, ``response_ids`` and ``dimensions``.

    A record has a ``prompt`` and a ``response``, text or chat messages, and a ``dimension``: the name of the dimension
    whose data it is, or a list of names. The row's ``dimensions`` holds a bool for each of ``dimensions``, in their
    order. Lengths are in tokens; long prompts and responses are treated as by `tokenize_records`. Raises ValueError,
    naming the row, for records that `mopref.llm.data.response_records.validate_response_records` refuses, for too long
    prompts and for responses without tokens; and if no row is left.
    """
    _check_limits(max_prompt_length, max_response_length, on_long_prompt, ("error", "truncate", "drop"))
    names = check_dimensions(dimensions)
    if not hasattr(records, "__len__"):
        records = list(records)
    validate_response_records(records, names)
    pairs = tokenizer if isinstance(tokenizer, PairTokenizer) else PairTokenizer(tokenizer)

    def make_row(record: Mapping[str, Any], number: int) -> dict[str, Any] | None:
        prompt = _prompt_ids(pairs, record, max_prompt_length, on_long_prompt, number)
        if prompt is None:
            return None
        response = _response_ids(pairs, record, "response", max_response_length, number)
        chosen = record_dimensions(record)
        return {"prompt_ids": prompt, "response_ids": response, "dimensions": [name in chosen for name in names]}

    return _kept_rows(make_row, records, max_prompt_length, progress)


def tokenize_prompts(
    tokenizer: Any,
    prompts: Iterable[str | Sequence[Mapping[str, str]]],
    max_prompt_length: int = 512,
    on_long_prompt: OnLongPrompt = "error",
) -> list[dict[str, Any]]:
    """Return one row per prompt, for objectives that sample their own responses: ``prompt`` and ``prompt_ids``.

    ``prompts`` are texts or lists of chat messages; ``on_long_prompt`` is as in `tokenize_records`. Raises ValueError,
    naming the row, for an empty prompt or one that is too long; and if no row is left.
    """
    _check_limits(max_prompt_length, 1, on_long_prompt, ("error", "truncate", "drop"))
    if isinstance(prompts, str):
        raise ValueError(f"prompts is a single text of {len(prompts)} characters; give a list of prompts")
    records = [{"prompt": prompt} for prompt in prompts]
    if not records:
        raise ValueError("there are no prompts: give at least one")
    pairs = tokenizer if isinstance(tokenizer, PairTokenizer) else PairTokenizer(tokenizer)

    def make_row(record: Mapping[str, Any], number: int) -> dict[str, Any] | None:
        problem = text_problem(record["prompt"], assistant_only=False)
        if problem:
            raise ValueError(f"row {number}: the prompt {problem}")
        ids = _prompt_ids(pairs, record, max_prompt_length, on_long_prompt, number)
        return None if ids is None else {"prompt": record["prompt"], "prompt_ids": ids}

    return _kept_rows(make_row, records, max_prompt_length, progress=False)


def plain_text_rows(tokenizer: Any, texts: Iterable[str], max_length: int = 512) -> list[dict[str, list[int]]]:
    """Return one row per text, its first token as ``prompt_ids`` and the rest as ``response_ids``.

    No chat template and no end-of-turn token: the text as it was met in pre-training, after the beginning-of-sequence
    token if the tokenizer adds one, which is then the prompt. A text of more than ``max_length`` ≥ 2 tokens is cut on
    the right. Raises ValueError, naming the row, for what is no text and for texts of fewer than two tokens; and if
    there is no text.
    """
    if max_length < 2:
        raise ValueError(
            f"max_length is {max_length}, but must be at least 2 tokens: one to begin with, one to predict"
        )
    if isinstance(texts, str):
        raise ValueError("texts is a single text; give a list of texts")
    rows = []
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"row {number} is a {type(text).__name__}, but must be a text")
        ids = [int(index) for index in tokenizer(text)["input_ids"]][:max_length]
        if len(ids) < 2:
            raise ValueError(
                f"row {number}: the text has {len(ids)} of at least 2 tokens (one to begin with, one to predict); "
                "leave the row out"
            )
        rows.append({"prompt_ids": ids[:1], "response_ids": ids[1:]})
    if not rows:
        raise ValueError("there are no texts: give at least one")
    return rows


def _kept_rows(
    make_row: Callable[[Mapping[str, Any], int], dict[str, Any] | None],
    records: Iterable[Mapping[str, Any]],
    max_prompt_length: int,
    progress: bool,
) -> list[dict[str, Any]]:
    """Return what ``make_row`` makes of each record and its number, without the records that it drops (None)."""
    rows: list[dict[str, Any]] = []
    dropped = 0
    for number, record in enumerate(tqdm(records, desc="tokenising", unit="row", disable=not progress, leave=False)):
        row = make_row(record, number)
        if row is None:
            dropped += 1
        else:
            rows.append(row)
    if not rows:
        raise ValueError(
            f"all {dropped} prompts are longer than max_prompt_length = {max_prompt_length} tokens, so no row is left; "
            "raise the limit or set on_long_prompt to 'truncate'"
        )
    if dropped:
        warnings.warn(
            f"left out {dropped} of {dropped + len(rows)} rows whose prompt has more than {max_prompt_length} tokens",
            stacklevel=3,
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
    prompt = _prompt_ids(pairs, record, max_prompt_length, on_long_prompt, row)
    if prompt is None:
        return None
    responses = {
        f"{column}_ids": _response_ids(pairs, record, column, max_response_length, row)
        for column in ("response_0", "response_1")
    }
    return {"prompt_ids": prompt, **responses}


def _prompt_ids(
    pairs: PairTokenizer, record: Mapping[str, Any], limit: int, on_long_prompt: OnLongPrompt, row: int
) -> list[int] | None:
    """Return the ids of a record's prompt, None if it is too long and such rows are dropped."""
    prompt = pairs.prompt_ids(record["prompt"])
    if len(prompt) > limit:
        if on_long_prompt == "drop":
            return None
        if on_long_prompt == "error":
            raise ValueError(
                f"row {row}: the prompt has {len(prompt)} tokens, but max_prompt_length is {limit}; raise "
                "the limit, or set on_long_prompt to 'truncate' (keeps the last tokens) or 'drop' (leaves the row out)"
            )
        prompt = pairs.truncate_prompt(prompt, limit)
    if not prompt:
        raise ValueError(f"row {row}: the prompt has no tokens, so the response's first token has nothing to follow")
    return prompt


def _response_ids(pairs: PairTokenizer, record: Mapping[str, Any], column: str, limit: int, row: int) -> list[int]:
    """Return the ids of one of a record's responses."""
    ids = pairs.response_ids(record[column], limit, not isinstance(record["prompt"], str))
    if not ids:
        raise ValueError(f"row {row}, column {column!r}: the response has no tokens; leave the row out")
    return ids


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
