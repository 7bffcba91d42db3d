"""The worker: a thread that answers requests, as many at once as the batch has rows."""

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mopref.conditioning import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.policy import Sampling
from mopref.serving.decoding import DecodingBatch, can_join
from mopref.serving.waiting_room import BusyError, Failure, Ticket, Token, WaitingRoom

__all__ = ["Worker"]

_log = logging.getLogger(__name__)
# The most tokens of prompts that are run at once, padding among them: beyond, memory is taken and others wait long.
_PROMPT_TOKENS = 8192
# Bounds of what a busy server says of how long it will take.
_SOONEST, _LATEST = 1, 60
# What the newest answer counts in the mean time of one.
_NEWEST = 0.1


@dataclass(eq=False)
class _Running:
    """A ticket that is being answered: how many tokens it has, since when, and whether it is over."""

    ticket: Ticket
    count: int = 0
    is_over: bool = False
    begun: float = field(default_factory=time.monotonic)


class Worker:
    """Answers tickets until it is closed: one batch, whose rows join and leave between two tokens.

    An error of the model fails the requests that it struck, and no others: those of a prompt that was being run, or of
    the whole batch.

    Args:
        model: the conditioned model.
        sampling: stop tokens and vocabulary.
        most_rows: requests that are answered at once; one for a model whose rows cannot join exactly (``can_join``).
        most_waiting: requests that wait beside them.

    Attributes:
        most_rows: the same, or 1.
        room: where tickets wait.

    Raises:
        ValueError: a model that cannot be served; see ``DecodingBatch``.
    """

    def __init__(self, model: PreferenceModel, sampling: Sampling, most_rows: int, most_waiting: int) -> None:
        self._model, self._sampling = model, sampling.for_model(model.base_model)
        self._stops = {*(self._sampling.stop_token_ids or ())}
        with evaluation_mode(model):
            self._batch = DecodingBatch(model, self._sampling)
            self.most_rows = most_rows if can_join(model) else 1
        self.room = WaitingRoom(most_waiting)
        self._running: list[_Running] = []
        self._seconds = 1.0
        self._thread = threading.Thread(target=self._work, name="mopref-worker", daemon=True)

    @property
    def rows(self) -> int:
        """How many requests are being answered."""
        return len(self._running)

    @property
    def is_alive(self) -> bool:
        """Whether it works."""
        return self._thread.is_alive() and not self.room.is_closed

    @property
    def is_full(self) -> bool:
        """Whether all places to wait are taken, as it looks now."""
        return len(self.room) >= self.room.places

    @property
    def retry_after(self) -> int:
        """The seconds after which a busy server has probably a place: by the answers' mean time so far."""
        share = (len(self.room) + self.rows) / self.most_rows
        return min(_LATEST, max(_SOONEST, math.ceil(self._seconds * share)))

    def submit(self, *tickets: Ticket) -> None:
        """Let a ticket wait for its turn, or several, which begin together where the batch has rows for them.

        Raises:
            BusyError: too many wait, or the worker is closed.
        """
        if not self._thread.is_alive():
            raise BusyError
        self.room.enter(*tickets)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self, seconds: float = 60.0) -> None:
        """Take no more, tell all whose answers are not whole, and end, within the time of a forward."""
        self.room.close()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _work(self) -> None:
        try:
            with evaluation_mode(self._model):
                while not self.room.is_closed:
                    if not self._running:
                        self.room.wait()
                    self._join(self.room.take(self.most_rows - self.rows, _PROMPT_TOKENS))
                    self._decode()
        finally:
            # Also after an error of ours: nobody waits for a worker that is gone.
            self.room.close()
            for row in self._running:
                row.ticket.tell(Failure("closing", "the server is being shut down."))

    def _join(self, tickets: list[Ticket]) -> None:
        if not tickets:
            return
        try:
            tokens = self._batch.join([ticket.request for ticket in tickets])
        except Exception as error:
            _fail(tickets, error)
            return
        rows = [_Running(ticket) for ticket in tickets]
        self._running += rows
        if not self._hand_out(rows, tokens):
            self._let_leave()

    def _decode(self) -> None:
        """Tokens for all rows, until one leaves or another may join."""
        if not self._running:
            return
        try:
            with self._batch.in_force() as base:
                while self._hand_out(self._running, self._batch.step(base)):
                    if self.room.is_closed or (len(self.room) and self.rows < self.most_rows):
                        break
            self._let_leave()
        except Exception as error:
            failed, self._running = self._running, []
            self._batch = DecodingBatch(self._model, self._sampling)
            _fail([row.ticket for row in failed], error)

    def _hand_out(self, rows: Sequence["_Running"], tokens: Sequence[int]) -> bool:
        """Deliver a new token of each of these rows; whether all of them go on."""
        for row, token in zip(rows, tokens, strict=True):
            row.count += 1
            is_last = row.count >= row.ticket.request.max_new_tokens
            end: Literal["stop", "length"] | None = "stop" if token in self._stops else "length" if is_last else None
            row.ticket.tell(Token(token, end))
            if end is None and row.ticket.is_late:
                row.ticket.tell(Failure("late", "the answer took longer than the time of a request."))
            row.is_over = end is not None or row.ticket.left or row.ticket.is_late
        return not any(row.is_over for row in rows)

    def _let_leave(self) -> None:
        """Let the rows leave that are over."""
        self._batch.keep([place for place, row in enumerate(self._running) if not row.is_over])
        for row in self._running:
            if row.is_over:
                self._seconds += _NEWEST * (time.monotonic() - row.begun - self._seconds)
        self._running = [row for row in self._running if not row.is_over]


def _fail(tickets: Sequence[Ticket], error: Exception) -> None:
    _log.error("%d requests failed", len(tickets), exc_info=error)
    for ticket in tickets:
        ticket.tell(Failure("failed", "the model failed on this request or on one beside it; the server goes on."))
