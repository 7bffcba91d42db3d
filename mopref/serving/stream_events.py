"""An answer as OpenAI's clients read it: whole, or as server-sent events."""

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from mopref.serving.answering import Answer, FailedError
from mopref.serving.forms import AnswerChoice, AnswerMessage, ChatAnswer, Usage, error_body

__all__ = ["Heading", "stream_events", "whole_answer"]


class Heading(NamedTuple):
    """What each part of an answer repeats.

    Attributes:
        id: of the answer.
        created: when it was begun, in seconds since 1970.
        model: the model's name.
        preference: λ by name.
        prompt_tokens: of the prompt.
    """

    id: str
    created: int
    model: str
    preference: dict[str, float]
    prompt_tokens: int


def whole_answer(heading: Heading, content: str, answer: Answer) -> ChatAnswer:
    """A whole answer."""
    assert answer.end is not None
    choice = AnswerChoice(message=AnswerMessage(content=content), finish_reason=answer.end)
    return ChatAnswer(
        id=heading.id,
        created=heading.created,
        model=heading.model,
        choices=[choice],
        usage=_usage(heading, answer),
        preference=heading.preference,
    )


async def stream_events(
    heading: Heading, first: str, pieces: AsyncIterator[str], answer: Answer, with_usage: bool
) -> AsyncIterator[str]:
    """The answer's pieces as events, with its end, and where asked for its tokens.

    A failure after the first piece, when the status was sent already, is an event with an ``error``, and the last one.
    """
    try:
        yield _event(heading, {"role": "assistant", "content": first})
        async for piece in pieces:
            yield _event(heading, {"content": piece})
        yield _event(heading, {}, answer.end)
        if with_usage:
            yield _event(heading, None, usage=_usage(heading, answer).model_dump())
    except FailedError as error:
        yield f"data: {json.dumps(error_body(str(error), 'server_error', code=error.failure.kind))}\n\n"
    finally:
        answer.leave()
    yield "data: [DONE]\n\n"


def _usage(heading: Heading, answer: Answer) -> Usage:
    total = heading.prompt_tokens + answer.num_tokens
    return Usage(prompt_tokens=heading.prompt_tokens, completion_tokens=answer.num_tokens, total_tokens=total)


def _event(heading: Heading, delta: dict[str, str] | None, end: str | None = None, **more: Any) -> str:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": end}]
    content = {
        "id": heading.id,
        "object": "chat.completion.chunk",
        "created": heading.created,
        "model": heading.model,
        "preference": heading.preference,
        "choices": choices,
        **more,
    }
    return f"data: {json.dumps(content)}\n\n"
