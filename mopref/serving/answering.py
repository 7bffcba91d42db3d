"""An answer under way: from the tokens of the worker's thread to pieces of text in an event loop."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Literal, Protocol

from mopref.serving.answer_text import AnswerText
from mopref.serving.decoding import DecodingRequest
from mopref.serving.waiting_room import Event, Failure, Ticket

__all__ = ["Answer", "FailedError", "Taker"]


class Taker(Protocol):
    """What takes tickets: a worker, or who hands several to it at once."""

    def submit(self, *tickets: Ticket) -> None:
        """Take them, all or none."""


class FailedError(Exception):
    """There is no answer, or no more of it.

    Args:
        failure: why.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


class Answer:
    """One answer, for one reader in the event loop that it was made in.

    Args:
        worker: takes the request.
        request: what is asked.
        text: makes text of its tokens.
        seconds: after which nobody waits any more.
        in_pieces: whether text is asked for before the answer is whole.

    Attributes:
        num_tokens: how many came so far, the one that ended it among them.
        end: why it ended; ``None`` before.

    Raises:
        BusyError: too many requests wait.
    """

    def __init__(
        self, worker: Taker, request: DecodingRequest, text: AnswerText, seconds: float, in_pieces: bool
    ) -> None:
        self._text, self._in_pieces = text, in_pieces
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(event: Event) -> None:
            loop.call_soon_threadsafe(self._events.put_nowait, event)

        self._ticket = Ticket(request, deliver, time.monotonic() + seconds)
        self.num_tokens = 0
        self.end: Literal["stop", "length"] | None = None
        worker.submit(self._ticket)

    def leave(self) -> None:
        """Say that the answer is not wanted any more: its row leaves the batch."""
        self._ticket.left = True

    async def pieces(self) -> AsyncIterator[str]:
        """The text as it comes, none of it empty.

        Raises:
            FailedError: there is no more.
        """
        try:
            while self.end is None:
                if piece := self._taken(await self._events.get()):
                    yield piece
            if piece := self._text.finish():
                yield piece
        finally:
            self.leave()

    def _taken(self, event: Event) -> str:
        if isinstance(event, Failure):
            raise FailedError(event)
        self.num_tokens, self.end = self.num_tokens + 1, event.end
        if event.end == "stop":
            # The token that ended it is none of its text.
            return ""
        if not self._in_pieces:
            self._text.hold(event.id)
            return ""
        piece = self._text.add(event.id)
        if self._text.is_stopped:
            self.end = "stop"
        return piece
