"""Answers that grow, asked for together: all pieces are shown, and who goes leaves the batch."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

pytest.importorskip("pydantic")

from mopref.serving.page.conversation import Asker, Part, Question
from mopref.serving.terms import RefusedError
from mopref.serving.waiting_room import BusyError, Failure, Token

MESSAGES = [{"role": "user", "content": "w1 w2"}]


class Scripted:
    """Stands in for a worker: delivers to each ticket what was written for it, some at once and some later."""

    is_alive, retry_after, room = True, 1, SimpleNamespace(places=8)

    def __init__(self, *scripts):
        self.scripts, self.tickets, self.calls = scripts, [], 0

    def submit(self, *tickets):
        self.calls += 1
        self.tickets += tickets
        loop = asyncio.get_running_loop()
        for ticket, script in zip(tickets, self.scripts, strict=True):
            for place, event in enumerate(script):
                loop.call_later(0.002 * place, ticket.tell, event)


@pytest.fixture
def reception(model, tokenizer):
    from mopref.llm.data.chat_template import PairTokenizer
    from mopref.serving.reception import Reception
    from mopref.serving.terms import Terms

    return Reception(model, PairTokenizer.of(tokenizer), Terms("tiny", ("helpful", "harmless"), 64, 40))


@pytest.fixture
def asker(reception):
    with ThreadPoolExecutor(1) as readers:
        yield lambda worker: Asker(worker, reception, 60.0, readers)


def all_of(asker, *questions):
    async def reading():
        return [[Part(**vars(part)) for part in parts] async for parts in asker.ask(questions)]

    return asyncio.run(reading())


@pytest.mark.parametrize("ends", [(3, 3), (1, 9), (9, 1), (1, 1)])
def test_the_last_that_is_shown_is_the_whole_of_every_answer(asker, tokenizer, ends):
    scripts = [[*(Token(10 + n) for n in range(end)), Token(2, "stop")] for end in ends]
    worker = Scripted(*scripts)
    shown = all_of(asker(worker), *(Question(MESSAGES, (0.5, 0.5)) for _ in ends))
    assert worker.calls == 1, "all together"
    for part, end in zip(shown[-1], ends, strict=True):
        assert part.is_over
        assert part.text == tokenizer.decode([10 + n for n in range(end)])
    assert all(not step[0].is_over or not step[1].is_over for step in shown[:-1])


def test_a_failure_of_one_is_told_and_the_other_goes_on(asker):
    worker = Scripted([Token(10), Failure("late", "the answer took longer.")], [Token(10), Token(11, "length")])
    late, whole = all_of(asker(worker), *[Question(MESSAGES, (0.5, 0.5))] * 2)[-1]
    assert late.problem == "The answer took longer."
    assert late.text
    assert whole.problem is None


def test_who_goes_leaves_the_batch(asker):
    worker = Scripted([Token(10), Token(11)], [Token(10), Token(11)])

    async def going():
        steps = asker(worker).ask([Question(MESSAGES, (0.5, 0.5))] * 2)
        await anext(steps)
        await steps.aclose()

    asyncio.run(going())
    assert all(ticket.left for ticket in worker.tickets)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question([{"role": "user", "content": "w1 " * 80}], (0.5, 0.5)), "shorten it"),
        (Question(MESSAGES, (0.5, 0.6)), "sums to 1.1"),
        (Question(MESSAGES, (0.5, 0.5), strength=9.0), "strength"),
        (Question([{"role": "user", "content": ""}], (0.5, 0.5)), "messages"),
        (Question([{"role": "user", "content": "\ud800"}], (0.5, 0.5)), "messages"),
    ],
)
def test_one_that_is_refused_refuses_all(asker, question, words):
    worker = Scripted()
    mine = asker(worker)
    with pytest.raises(RefusedError) as caught:
        all_of(mine, Question(MESSAGES, (0.5, 0.5)), question)
    assert words in caught.value.sentence
    assert not worker.calls
    sentence = mine.sentence(caught.value)
    assert sentence[0].isupper() or not sentence[0].isalpha()


def test_more_than_may_wait_is_no_busy_server(asker):
    with pytest.raises(RefusedError) as caught:
        all_of(asker(Scripted()), *[Question(MESSAGES, (0.5, 0.5))] * 9)
    assert "9 answers are asked for at once, and 8 may wait" in caught.value.sentence


def test_more_tokens_than_are_left_are_no_mistake(asker):
    worker = Scripted([Token(2, "stop")])
    all_of(asker(worker), Question(MESSAGES, (0.5, 0.5), max_tokens=4000))
    assert worker.tickets[0].request.max_new_tokens == 40
    worker = Scripted([Token(2, "stop")])
    all_of(asker(worker), Question(MESSAGES, (0.5, 0.5), max_tokens=7))
    assert worker.tickets[0].request.max_new_tokens == 7


def test_what_is_told_of_an_error_holds_nothing_of_the_machine(asker, caplog):
    worker = Scripted()
    mine = asker(worker)
    assert mine.sentence(RuntimeError("/home/secret")) == (
        "The page failed on this; the server's log says how. Others are served on."
    )
    assert "/home/secret" in caplog.text
    assert "ask again in 1 second." in mine.sentence(BusyError())
    worker.is_alive = False
    assert "is being shut down" in mine.sentence(BusyError())
