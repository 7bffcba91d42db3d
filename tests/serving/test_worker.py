"""The worker: each answer as alone, errors strike those they concern, nobody is forgotten."""

import queue
import random
import threading
import time

import pytest

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy import Sampling
from mopref.serving.decoding import DecodingRequest
from mopref.serving.waiting_room import BusyError, Failure, Ticket
from mopref.serving.worker import Worker

SAMPLING = Sampling(stop_token_ids=())


@pytest.fixture
def make_worker(model):
    workers = []

    def make(rows: int = 8, waiting: int = 200, start: bool = True, sampling: Sampling = SAMPLING) -> Worker:
        worker = Worker(model, sampling, rows, waiting)
        workers.append(worker)
        if start:
            worker.start()
        return worker

    yield make
    for worker in workers:
        worker.close()


def asked(count: int, new_tokens: int = 6) -> list[DecodingRequest]:
    source = random.Random(1)
    return [
        DecodingRequest(
            tuple(source.randrange(4, 100) for _ in range(source.randrange(1, 12))),
            ((weight := source.random()), 1 - weight),
            new_tokens,
        )
        for _ in range(count)
    ]


def submitted(worker: Worker, request: DecodingRequest, seconds: float = 60.0) -> tuple[Ticket, queue.Queue]:
    events: queue.Queue = queue.Queue()
    ticket = Ticket(request, events.put, time.monotonic() + seconds)
    worker.submit(ticket)
    return ticket, events


def outcome(events: queue.Queue) -> tuple[list[int], str]:
    """The tokens until the end, and how it ended."""
    tokens: list[int] = []
    while True:
        event = events.get(timeout=60)
        if isinstance(event, Failure):
            return tokens, event.kind
        tokens.append(event.id)
        if event.end is not None:
            return tokens, event.end


def test_each_answer_is_that_of_its_preference_alone(make_worker, alone):
    worker, requests = make_worker(), asked(40)
    waiting = [submitted(worker, request) for request in requests]
    for request, (_, events) in zip(requests, waiting, strict=True):
        assert outcome(events) == (alone(request.prompt_ids, request.preference, 6), "length")


def test_an_answer_ends_at_a_stop_token(make_worker, alone):
    (request,) = asked(1)
    tokens = alone(request.prompt_ids, request.preference, 6)
    worker = make_worker(sampling=Sampling(stop_token_ids=(tokens[2],)))
    assert outcome(submitted(worker, request)[1]) == (tokens[: tokens.index(tokens[2]) + 1], "stop")


def test_a_single_token_is_an_answer(make_worker):
    worker = make_worker()
    (request,) = asked(1, new_tokens=1)
    tokens, end = outcome(submitted(worker, request)[1])
    assert (len(tokens), end) == (1, "length")


def test_a_busy_worker_says_so_and_when(make_worker):
    worker = make_worker(rows=1, waiting=2, start=False)
    with pytest.raises(BusyError):
        worker.submit(Ticket(asked(1)[0], print, time.monotonic() + 5))
    worker.start()
    accepted, refused = [], 0
    for request in asked(60, new_tokens=20):
        try:
            accepted.append(submitted(worker, request))
        except BusyError:
            refused += 1
            assert 1 <= worker.retry_after <= 60
    assert refused > 0
    assert all(outcome(events)[1] == "length" for _, events in accepted)
    assert len(accepted) + refused == 60


def test_who_leaves_makes_room_for_others(make_worker, monkeypatch):
    worker, steps = make_worker(rows=1), []
    step = worker._batch.step
    monkeypatch.setattr(worker._batch, "step", lambda base: steps.append(base) or step(base))
    long, short = asked(1, new_tokens=240)[0], asked(2, new_tokens=3)[1]
    ticket, events = submitted(worker, long)
    events.get(timeout=60)
    ticket.left = True
    assert outcome(submitted(worker, short)[1])[1] == "length"
    assert len(steps) < 200, "its row went on without a reader"


def test_an_answer_that_takes_too_long_is_cut_with_a_word(make_worker):
    worker = make_worker()
    _, events = submitted(worker, asked(1, new_tokens=250)[0], seconds=0.15)
    tokens, kind = outcome(events)
    assert kind == "late"
    assert len(tokens) < 250


def test_an_error_in_the_batch_fails_its_requests_and_the_worker_goes_on(make_worker, alone, monkeypatch, caplog):
    worker, requests = make_worker(), asked(3, new_tokens=40)
    step, armed = worker._batch.step, threading.Event()

    def failing(base):
        if armed.is_set():
            raise RuntimeError("out of memory")
        return step(base)

    monkeypatch.setattr(worker._batch, "step", failing)
    running = [submitted(worker, request)[1] for request in requests[:2]]
    for events in running:
        events.get(timeout=60)
    armed.set()
    assert [outcome(events)[1] for events in running] == ["failed", "failed"]
    assert "out of memory" in caplog.text
    tokens, end = outcome(submitted(worker, requests[2])[1])
    assert (tokens, end) == (alone(requests[2].prompt_ids, requests[2].preference, 40), "length")


def test_an_error_of_a_prompt_fails_it_alone(make_worker, alone):
    worker, (good,) = make_worker(), asked(1, new_tokens=30)
    _, events = submitted(worker, good)
    first = events.get(timeout=60).id
    assert outcome(submitted(worker, DecodingRequest((100_000,), (1.0, 0.0), 3))[1]) == ([], "failed")
    tokens, end = outcome(events)
    assert ([first, *tokens], end) == (alone(good.prompt_ids, good.preference, 30), "length")


def test_closing_tells_all(make_worker):
    worker = make_worker(rows=1)
    waiting = [submitted(worker, request)[1] for request in asked(4, new_tokens=240)]
    waiting[0].get(timeout=60)
    worker.close()
    assert not worker.is_alive
    assert {outcome(events)[1] for events in waiting} == {"closing"}
    with pytest.raises(BusyError):
        submitted(worker, asked(1)[0])


def test_rows_that_cannot_join_are_answered_one_at_a_time():
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=100, num_key_value_heads=2, sliding_window=8, **sizes)
    model = PreferenceModel(MistralForCausalLM(config).eval(), SVDLoRAConfig(objectives=("a", "b")))
    worker = Worker(model, SAMPLING, 8, 8)
    assert worker.most_rows == 1
    worker.start()
    events = [submitted(worker, request)[1] for request in asked(3)]
    assert [outcome(each)[1] for each in events] == ["length"] * 3
    worker.close()


def test_the_model_is_in_the_mode_that_it_came_in(model):
    model.train()
    worker = Worker(model, SAMPLING, 2, 2)
    assert model.training
    worker.start()
    outcome(submitted(worker, asked(1)[0])[1])
    assert not model.training
    worker.close()
    assert model.training
