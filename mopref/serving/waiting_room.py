"""Where requests wait: a queue with an end, from which a worker takes as many as it has room for."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from mopref.serving.decoding import DecodingRequest

__all__ = ["BusyError", "Event", "Failure", "Ticket", "Token", "WaitingRoom"]


class Token(NamedTuple):
    """A token of an answer.

    Attributes:
        id: which one.
        end: why the answer ends with it: its stop token, or its length; ``None`` where it goes on.
    """

    id: int
    end: Literal["stop", "length"] | None = None


class Failure(NamedTuple):
    """Why there is no answer, or no more of it.

    Attributes:
        kind: the request took longer than its time, the model failed, or the server closes.
        sentence: for the one who asked.
    """

    kind: Literal["late", "failed", "closing"]
    sentence: str


Event: TypeAlias = Token | Failure


class BusyError(Exception):
    """So many requests wait already that no other is taken; a busy server says so at once, and loses none."""


@dataclass(eq=False)
class Ticket:
    """A request that waits or is answered, and who it is for.

    Attributes:
        request: what is asked.
        deliver: called by the worker with each event, in order; the last one ends the answer, or is a failure.
        deadline: of ``time.monotonic()``, after which nobody waits any more.
        left: set by the one who asked, at any time, where the answer is not wanted any more.
    """

    request: DecodingRequest
    deliver: Callable[[Event], None]
    deadline: float
    left: bool = False

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self.deadline

    def tell(self, event: Event) -> None:
        """Deliver an event to the one who asked, if still there; an error of theirs is as if they had left."""
        if self.left:
            return
        try:
            self.deliver(event)
        except Exception:  # Whatever it is, such as an event loop that was closed, others' answers go on.
            self.left = True


class WaitingRoom:
    """A queue of tickets with an end, first come, first served; for one worker and any number of threads.

    Args:
        places: the most tickets that wait.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._tickets: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def is_closed(self) -> bool:
        """Whether no more tickets are taken."""
        return self._is_closed

    def enter(self, *tickets: Ticket) -> None:
        """Let a ticket wait, or several that are taken together: all of them, or none.

        Raises:
            BusyError: so many places are not free, or the room is closed.
        """
        with self._changed:
            if len(self._tickets) + len(tickets) > self.places:
                # Who has gone holds no place.
                self._tickets = deque(each for each in self._tickets if not each.left)
            if self._is_closed or len(self._tickets) + len(tickets) > self.places:
                raise BusyError
            self._tickets += tickets
            self._changed.notify()

    def take(self, most: int, most_tokens: int) -> list[Ticket]:
        """The next tickets, of those that nobody left: at most so many, and of so many tokens where padded together.

        The first one is taken whatever its tokens. Late ones are told so.
        """
        taken: list[Ticket] = []
        longest = 0
        with self._changed:
            while self._tickets and len(taken) < most:
                ticket = self._tickets[0]
                if not ticket.left and not ticket.is_late:
                    longest = max(longest, len(ticket.request.prompt_ids))
                    if taken and longest * (len(taken) + 1) > most_tokens:
                        break
                    taken.append(ticket)
                elif not ticket.left:
                    ticket.tell(Failure("late", "the server was too busy to begin within the time of a request."))
                self._tickets.popleft()
        return taken

    def wait(self) -> None:
        """Return when a ticket waits or the room is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._tickets or self._is_closed)

    def close(self) -> None:
        """Take no more tickets, and tell those that wait."""
        with self._changed:
            self._is_closed = True
            for ticket in self._tickets:
                ticket.tell(Failure("closing", "the server is being shut down."))
            self._tickets.clear()
            self._changed.notify_all()
