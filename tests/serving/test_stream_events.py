"""Answers in the form that OpenAI's clients read."""

import asyncio
import json

import pytest

pytest.importorskip("pydantic")

from mopref.serving.answering import FailedError
from mopref.serving.stream_events import Heading, stream_events, whole_answer
from mopref.serving.waiting_room import Failure

HEADING = Heading("chatcmpl-1", 1, "tiny", {"helpful": 0.7, "harmless": 0.3}, 5)


class Ended:
    """An answer that is over."""

    num_tokens, end, has_left = 3, "stop", False

    def leave(self):
        self.has_left = True


async def given(*pieces, failure=None):
    for piece in pieces:
        yield piece
    if failure:
        raise FailedError(failure)


def events(pieces, answer, with_usage=False):
    async def reading():
        return [event async for event in stream_events(HEADING, "a", pieces, answer, with_usage)]

    lines = asyncio.run(reading())
    assert all(line.startswith("data: ") and line.endswith("\n\n") and line.count("\n") == 2 for line in lines)
    assert lines[-1] == "data: [DONE]\n\n"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_a_whole_answer():
    made = whole_answer(HEADING, "a text", Ended()).model_dump()
    assert made["choices"][0]["message"] == {"role": "assistant", "content": "a text"}
    assert made["choices"][0]["finish_reason"] == "stop"
    assert made["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert made["preference"] == {"helpful": 0.7, "harmless": 0.3}


def test_pieces_then_the_end_then_what_it_took():
    answer = Ended()
    made = events(given("b\n", "ä"), answer, with_usage=True)
    deltas = [event["choices"][0]["delta"] for event in made[:-1]]
    assert deltas == [{"role": "assistant", "content": "a"}, {"content": "b\n"}, {"content": "ä"}, {}]
    assert [event["choices"][0]["finish_reason"] for event in made[:-1]] == [None, None, None, "stop"]
    assert (made[-1]["choices"], made[-1]["usage"]["total_tokens"]) == ([], 8)
    assert {event["id"] for event in made} == {"chatcmpl-1"}
    assert answer.has_left


def test_what_it_took_is_told_only_where_asked_for():
    assert all("usage" not in event for event in events(given(), Ended()))


def test_a_failure_on_the_way_is_the_last_event():
    answer = Ended()
    made = events(given("b", failure=Failure("failed", "it broke.")), answer)
    assert made[-1]["error"]["message"] == "it broke."
    assert made[-1]["error"]["code"] == "failed"
    assert answer.has_left
