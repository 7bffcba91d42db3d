"""Prompts and responses out of the columns of public data: text, chat messages, turns of ShareGPT, alpaca's columns.

A response of one message becomes its text, which is tokenised to the same ids. Of a message, what a chat template reads
stays: role, content, name and what the assistant thought; tools and images are malformed, since they would be left out
unsaid. Roles of other data sets (``human``, ``gpt``) become ``user`` and ``assistant``. A text prompt that is a
dialogue with ``Human:`` and ``Assistant:``, or with HelpSteer's marks of turns, becomes messages; a tokenizer without a
chat template lays the former out in the same words again.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

from mopref._repr import quoted_list
from mopref.llm.data.records import holds_something, is_empty_text, other_input, text_problem

from .dialogue_texts import common_length, is_dialogue_text, prompt_messages, split_dialogue_texts
from .report import MalformedRow, UnfitRow

__all__ = [
    "PROMPT_COLUMNS",
    "Messages",
    "Text",
    "cell",
    "checked_prompt",
    "checked_response",
    "explicit_prompt",
    "last_turn",
    "refuse_rendered_inputs",
    "split_pair",
    "text_or_messages",
]

Messages: TypeAlias = list[dict[str, Any]]
Text: TypeAlias = str | Messages

# Where a prompt may stand, the first that is there; with ``instruction`` go ``input`` and ``history``.
PROMPT_COLUMNS = ("prompt", "instruction", "context", "conversations", "messages")
_ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_TOOL_ROLES = ("tool", "function", "function_call", "observation", "ipython")
_TOOL_PARTS = ("tool_calls", "function_call", "tool_call_id")
_IMAGE_PARTS = ("image", "images", "video", "videos", "audio")
_KEPT_PARTS = ("name", "reasoning_content", "reasoning", "thinking")
# A list of messages that was written into a cell as text, by json.dumps or by pandas.
_RENDERED_MESSAGES = re.compile(r"\s*\[\s*\{\s*['\"](?:role|content|from|value)['\"]\s*:")
# HelpSteer's turns within a prompt: the first one is the user's, without a mark.
_MARKED_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def cell(row: Mapping[str, Any], column: str) -> Any:
    """A cell that must hold something.

    Raises:
        MalformedRow: the column is missing or blank.
    """
    if row.get(column) is None:
        raise MalformedRow(f"column {column!r} missing", f"column {column!r} is missing or blank.")
    return row[column]


def refuse_rendered_inputs(row: Mapping[str, Any]) -> None:
    """Refuse a row with tools, images or the like.

    Raises:
        MalformedRow: the column is the reason.
    """
    column = other_input({name: value for name, value in row.items() if value not in ("[]", "{}", "null")})
    if column is not None:
        raise MalformedRow(
            column,
            f"column {column!r} holds something that is not rendered, since prompts and responses are text: write it "
            "into the messages, leave the column out, or set on_malformed to 'drop'.",
        )


def text_or_messages(value: Any, column: str) -> Text:
    """A cell as text or chat messages; a single message is a list of one.

    Raises:
        MalformedRow: neither of them, or a message with tools, images or an unknown speaker.

    Example:
        >>> text_or_messages({"from": "gpt", "value": "So."}, "chosen")
        [{'role': 'assistant', 'content': 'So.'}]
    """
    if isinstance(value, str):
        if _RENDERED_MESSAGES.match(value):
            raise MalformedRow(
                "messages written as text",
                f"column {column!r} holds a list of messages that was written as text: save the file as JSON lines or "
                "parquet, which hold lists.",
            )
        return value
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise MalformedRow(
            "no text", f"column {column!r} is a {type(value).__name__}: it must be text or a list of chat messages."
        )
    return [_message(message, f"column {column!r}, message {place}") for place, message in enumerate(value)]


def _message(message: Any, place: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        kind = type(message).__name__
        raise MalformedRow("no message", f"{place} is a {kind}: a message is a dict with 'role' and 'content'.")
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    _refuse_other_parts(message, role, content, place)
    content = _joined_parts(content)
    if not isinstance(role, str) or not isinstance(content, str):
        raise MalformedRow(
            "no message", f"{place} has {quoted_list(message)}: it needs the texts 'role' and 'content'."
        )
    role = _ROLES.get(role.strip().lower(), role)
    return {"role": role, "content": content} | {
        part: message[part] for part in _KEPT_PARTS if holds_something(message.get(part))
    }


def _refuse_other_parts(message: Mapping[str, Any], role: Any, content: Any, place: str) -> None:
    """Refuse tools and images, beside a message's content or in it."""
    kinds = _part_kinds(content)
    if role in _TOOL_ROLES or any(holds_something(message.get(part)) for part in _TOOL_PARTS):
        raise MalformedRow(
            "tools", f"{place} is a call of a tool, or its result: write it as text, or leave the row out."
        )
    if any(holds_something(message.get(part)) for part in _IMAGE_PARTS) or kinds - {"text"}:
        what = ", ".join(sorted(kinds - {"text"})) or "an image"
        raise MalformedRow("images", f"{place} holds more than text ({what}): leave it out.")


def _part_kinds(content: Any) -> set[str]:
    if not isinstance(content, Sequence) or isinstance(content, str):
        return set()
    return {str(part.get("type", "text")) if isinstance(part, Mapping) else "text" for part in content}


def _joined_parts(content: Any) -> Any:
    """The text of a content in parts, which are all text."""
    if isinstance(content, str) or not isinstance(content, Sequence):
        return content
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else None


def explicit_prompt(row: Mapping[str, Any]) -> Text | None:
    r"""The prompt that stands in a row's columns, with its system text; ``None`` if there is none.

    Raises:
        MalformedRow: what is no prompt, or a second system text.

    Example:
        >>> explicit_prompt({"instruction": "Add.", "input": "1 + 1"})
        'Add.\n1 + 1'
        >>> explicit_prompt({"prompt": "Why?", "system": "Be brief."})
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Why?'}]
    """
    column = next((name for name in PROMPT_COLUMNS if row.get(name) is not None), None)
    if column is None:
        return None
    prompt = text_or_messages(row[column], column)
    if column == "instruction":
        prompt = _alpaca_prompt(prompt, row)
    elif isinstance(prompt, str):
        prompt = prompt_messages(prompt) or _marked_turns(prompt)
    return _with_system(prompt, row.get("system"))


def _alpaca_prompt(instruction: Text, row: Mapping[str, Any]) -> Text:
    """Instruction and input, after the turns of a history."""
    query, history = row.get("input") or "", row.get("history") or []
    if not isinstance(query, str):
        raise MalformedRow("no text", f"column 'input' is a {type(query).__name__}: it must be text.")
    if not query and not history:
        return instruction
    if not isinstance(instruction, str):
        raise MalformedRow("no text", "column 'instruction' holds messages, beside 'input' or 'history': give a text.")
    text = f"{instruction}\n{query}" if query and instruction else instruction or query
    turns = _history(history)
    return [*turns, {"role": "user", "content": text}] if turns else text


def _history(history: Any) -> Messages:
    pairs = [] if isinstance(history, str | Mapping) else list(history)
    if isinstance(history, str | Mapping) or not all(
        isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    ):
        raise MalformedRow("no history", "column 'history' is no list of pairs of texts, [user, assistant].")
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]


def _marked_turns(prompt: str) -> Text:
    """A prompt with HelpSteer's marks of turns as messages; any other as it is."""
    first, *rest = _MARKED_TURN.split(prompt) if "<extra_id_1>" in prompt else [prompt]
    if not rest:
        return prompt
    turns = zip(rest[::2], rest[1::2], strict=True)
    return [{"role": "user", "content": first}] + [{"role": role.lower(), "content": text} for role, text in turns]


def _with_system(prompt: Text, system: Any) -> Text:
    if system is None or system == "":
        return prompt
    if not isinstance(system, str):
        raise MalformedRow("no text", f"column 'system' is a {type(system).__name__}: it must be text.")
    if not system.strip():
        return prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if messages and messages[0]["role"] == "system":
        if messages[0]["content"] == system:
            return messages
        raise MalformedRow("two system texts", "column 'system' and the first message are two different system texts.")
    return [{"role": "system", "content": system}, *messages]


def checked_prompt(prompt: Text) -> Text:
    """The prompt itself.

    Raises:
        UnfitRow: it is empty.
        MalformedRow: it is no prompt of a record.
    """
    return _checked(prompt, "prompt")


def checked_response(response: Text) -> Text:
    """The response itself, as a text if it is one message.

    Raises:
        UnfitRow: it is empty.
        MalformedRow: it is no response of a record.
    """
    response = _checked(response, "response")
    if len(response) == 1 and not isinstance(response, str):
        content: str = response[0]["content"]
        return content
    return response


def _checked(text: Text, what: str) -> Text:
    if is_empty_text(text):
        raise UnfitRow("empty text")
    problem = text_problem(text, assistant_only=what == "response")
    if problem:
        raise MalformedRow(f"malformed {what}", f"the {what} {problem}")
    return text


def last_turn(messages: Messages, column: str) -> tuple[Messages, Messages]:
    """A dialogue's prompt, and the messages of the assistant's that end it.

    Raises:
        MalformedRow: the last message is not the assistant's.
    """
    count = sum(1 for _ in takewhile(lambda message: message["role"] == "assistant", reversed(messages)))
    if not count:
        raise MalformedRow("no answer", f"column {column!r} does not end with a message of the assistant's.")
    return messages[:-count], messages[-count:]


def split_pair(chosen: Text, rejected: Text, prompt: Text | None) -> tuple[Text, Text, Text]:
    """Prompt and two responses of a row, in which the answers may be whole dialogues that share the prompt.

    Args:
        chosen: an answer, or a dialogue that ends with one.
        rejected: the other.
        prompt: as it stands in a column of its own; ``None`` for an implicit one.

    Raises:
        UnfitRow: dialogues that part before their last turn, or do not begin alike.
        MalformedRow: dialogues of which the prompt is no part, or one dialogue and one text.
    """
    whole = [
        not isinstance(answer, str) and any(m["role"] != "assistant" for m in answer) for answer in (chosen, rejected)
    ]
    if prompt is not None and not any(whole):
        return prompt, chosen, rejected
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _split_texts(chosen, rejected)
    if isinstance(chosen, str) or isinstance(rejected, str) or any(whole) != all(whole):
        raise MalformedRow(
            "one answer is a dialogue",
            "the chosen and the rejected answer are not both whole dialogues, or both answers to a prompt in a column: "
            "write them alike.",
        )
    shared, *answers = _split_messages(chosen, rejected)
    if prompt is not None and not _contents(prompt) <= _contents(shared):
        raise MalformedRow(
            "the prompt is not in the dialogues",
            "the prompt is no message of the dialogues that the answers are in: correct it, or say by "
            "columns={'prompt': None} that it is not to be read.",
        )
    return shared, answers[0], answers[1]


def _contents(text: Text) -> set[str]:
    texts = [text] if isinstance(text, str) else [message["content"] for message in text]
    return {" ".join(content.split()) for content in texts}


def _split_messages(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    common = common_length(chosen, rejected)
    while common and chosen[common - 1]["role"] == "assistant":
        common -= 1
    answers = (chosen[common:], rejected[common:])
    if not common:
        raise UnfitRow("the dialogues do not begin alike")
    if any(message["role"] != "assistant" for answer in answers for message in answer):
        raise UnfitRow("the dialogues part before the last turn")
    return chosen[:common], *answers


def _split_texts(chosen: str, rejected: str) -> tuple[Text, str, str]:
    """Whole texts: at the last turn that they share, or at the last white space before they part."""
    if is_dialogue_text(chosen) and is_dialogue_text(rejected):
        prompt, first, second = split_dialogue_texts(chosen, rejected)
        if not prompt:
            raise UnfitRow("the dialogues part before the last turn")
        return prompt, first, second
    shared = chosen[: common_length(chosen, rejected)]
    start = next((place for place in reversed(range(len(shared))) if shared[place].isspace()), 0)
    if not shared[:start].strip():
        raise UnfitRow("the dialogues do not begin alike")
    return shared[:start], chosen[start:], rejected[start:]
