"""An answer in an event loop: pieces as they come, its end, and a row that leaves with its reader."""

import asyncio

import pytest

pytest.importorskip("pydantic")

from mopref.serving.answer_text import AnswerText
from mopref.serving.answering import Answer, FailedError
from mopref.serving.decoding import DecodingRequest
from mopref.serving.waiting_room import Failure, Token

REQUEST = DecodingRequest((5, 6), (0.5, 0.5), 9)


class Scripted:
    """Stands in for a worker: delivers these events at once, from another thread."""

    def __init__(self, *events):
        self.events, self.tickets = events, []

    def submit(self, ticket):
        self.tickets.append(ticket)
        loop = asyncio.get_running_loop()
        for event in self.events:
            loop.run_in_executor(None, lambda: None)
            ticket.tell(event)


def read(tokenizer, *events, stop=(), in_pieces=True):
    async def reading():
        worker = Scripted(*events)
        answer = Answer(worker, REQUEST, AnswerText(tokenizer, stop), 60.0, in_pieces)
        pieces = [piece async for piece in answer.pieces()]
        return pieces, answer, worker.tickets[0]

    return asyncio.run(reading())


@pytest.mark.parametrize("in_pieces", [True, False])
def test_the_text_of_the_tokens(tokenizer, in_pieces):
    pieces, answer, ticket = read(tokenizer, Token(4), Token(5), Token(6, "length"), in_pieces=in_pieces)
    assert pieces == (["w0", " w1", " w2"] if in_pieces else ["w0 w1 w2"])
    assert (answer.end, answer.num_tokens) == ("length", 3)
    assert ticket.left


def test_the_token_that_ended_it_is_no_text(tokenizer):
    pieces, answer, _ = read(tokenizer, Token(4), Token(5, "stop"))
    assert (pieces, answer.end, answer.num_tokens) == (["w0"], "stop", 2)


def test_a_stop_text_ends_it_before_its_tokens_do(tokenizer):
    pieces, answer, ticket = read(tokenizer, Token(4), Token(5), Token(6), Token(7), stop=["w2"])
    assert ("".join(pieces), answer.end, answer.num_tokens) == ("w0 w1", "stop", 3)
    assert ticket.left


def test_a_failure_comes_after_what_there_was(tokenizer):
    async def reading():
        worker = Scripted(Token(4), Failure("failed", "it broke."))
        answer = Answer(worker, REQUEST, AnswerText(tokenizer), 60.0, True)
        pieces = answer.pieces()
        assert await anext(pieces) == "w0"
        with pytest.raises(FailedError, match="it broke"):
            await anext(pieces)
        assert worker.tickets[0].left

    asyncio.run(reading())


def test_a_reader_that_is_cancelled_leaves(tokenizer):
    async def reading():
        worker = Scripted(Token(4))
        answer = Answer(worker, REQUEST, AnswerText(tokenizer), 60.0, True)
        pieces = answer.pieces()
        await anext(pieces)
        task = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert worker.tickets[0].left

    asyncio.run(reading())
