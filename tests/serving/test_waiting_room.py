"""The queue: first come, first served, with an end; nobody in it is forgotten."""

import threading
import time

import pytest

from mopref.serving.decoding import DecodingRequest
from mopref.serving.waiting_room import BusyError, Failure, Ticket, Token, WaitingRoom


def ticket(length: int = 1, seconds: float = 60.0) -> Ticket:
    events: list = []
    made = Ticket(DecodingRequest((5,) * length, (1.0,), 3), events.append, time.monotonic() + seconds)
    made.events = events
    return made


def test_first_come_first_served_up_to_its_places():
    room, tickets = WaitingRoom(3), [ticket() for _ in range(4)]
    for each in tickets[:3]:
        room.enter(each)
    with pytest.raises(BusyError):
        room.enter(tickets[3])
    assert room.take(2, 100) == tickets[:2]
    room.enter(tickets[3])
    assert room.take(5, 100) == tickets[2:]
    assert room.take(5, 100) == []


def test_several_are_let_in_together_or_none_is():
    room, tickets = WaitingRoom(3), [ticket() for _ in range(4)]
    room.enter(*tickets[:2])
    with pytest.raises(BusyError):
        room.enter(*tickets[2:])
    assert len(room) == 2
    tickets[0].left = True
    room.enter(*tickets[2:])
    assert room.take(9, 100) == tickets[1:]


def test_prompts_are_taken_up_to_so_many_tokens_with_their_padding():
    room, tickets = WaitingRoom(9), [ticket(50), ticket(3), ticket(4), ticket(20), ticket(1)]
    for each in tickets:
        room.enter(each)
    # The first one always; with 3, 4 and 20 beside each other 60 tokens would be padded to.
    assert room.take(9, 40) == tickets[:1]
    assert room.take(9, 40) == tickets[1:3]
    assert room.take(9, 40) == tickets[3:]


def test_who_left_holds_no_place_and_is_not_taken():
    room, gone, here = WaitingRoom(1), ticket(), ticket()
    room.enter(gone)
    gone.left = True
    room.enter(here)
    assert room.take(5, 100) == [here]
    assert gone.events == []


def test_who_is_late_is_told():
    room, late, here = WaitingRoom(5), ticket(seconds=-1), ticket()
    room.enter(late)
    room.enter(here)
    assert room.take(1, 100) == [here]
    assert [event.kind for event in late.events] == ["late"]


def test_a_closed_room_tells_all_and_takes_none():
    room, waiting = WaitingRoom(5), ticket()
    room.enter(waiting)
    room.close()
    assert waiting.events == [Failure("closing", "the server is being shut down.")]
    with pytest.raises(BusyError):
        room.enter(ticket())


@pytest.mark.parametrize("wake", ["enter", "close"])
def test_a_worker_waits_until_something_changes(wake):
    room, done = WaitingRoom(5), threading.Event()
    thread = threading.Thread(target=lambda: (room.wait(), done.set()), daemon=True)
    thread.start()
    assert not done.wait(0.05)
    room.enter(ticket()) if wake == "enter" else room.close()
    assert done.wait(5)


def test_an_error_of_the_reader_is_as_if_it_had_left():
    def closed(event):
        raise RuntimeError("Event loop is closed")

    broken = Ticket(DecodingRequest((5,), (1.0,), 3), closed, time.monotonic() + 5)
    broken.tell(Token(3))
    assert broken.left
