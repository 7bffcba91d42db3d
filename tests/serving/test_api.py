"""The interface as clients see it: answers, streams, refusals, a crowd; nothing is lost."""

import asyncio
import json
import random
import threading
import time

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

CHAT = "/v1/chat/completions"


def client_of(server, **options):
    from fastapi.testclient import TestClient

    return TestClient(server.app, base_url="http://localhost", **options)


@pytest.fixture
def client(make_server):
    server = make_server(rows=4, waiting=8, minimums={"harmless": 0.1}, name="tiny")
    with client_of(server) as client:
        client.server = server
        yield client


@pytest.fixture
def expected(alone, tokenizer):
    """The text and the tokens of a greedy answer at a preference, by ``generate``."""

    def expected(content: str, preference, count: int) -> str:
        ids = tokenizer(f"<turn> {content} </s><turn>", add_special_tokens=False)["input_ids"]
        tokens = alone(ids, list(preference), count, stops=(2,))
        return tokenizer.decode(tokens, skip_special_tokens=True).strip()

    return expected


def streamed(answer) -> str:
    lines = [line[6:] for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    assert "error" not in events[-1]
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])


def test_an_answer_is_that_of_its_preference(client, form, expected):
    answer = client.post(CHAT, json=form).json()
    assert answer["choices"][0]["message"]["content"] == expected("w1 w2 w3", (0.7, 0.3), 8)
    assert answer["preference"] == form["preference"]
    assert answer["usage"]["prompt_tokens"] == 6
    other = client.post(CHAT, json={**form, "preference": [0.1, 0.9]}).json()
    assert other["choices"][0]["message"]["content"] == expected("w1 w2 w3", (0.1, 0.9), 8)
    assert other["choices"] != answer["choices"]


def test_a_stream_is_the_same_answer_in_pieces(client, form):
    whole = client.post(CHAT, json=form).json()["choices"][0]["message"]["content"]
    answer = client.post(CHAT, json={**form, "stream": True, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert streamed(answer) == whole
    assert '"completion_tokens": 8' in answer.text


def test_a_seed_gives_the_same_answer_again(client, form):
    def ask(seed):
        return client.post(CHAT, json={**form, "temperature": 1.5, "seed": seed}).json()["choices"][0]["message"]

    assert ask(1) == ask(1)
    assert ask(-1) == ask(-1)
    assert any(ask(-seed) != ask(seed) for seed in range(1, 4))
    assert len({ask(seed)["content"] for seed in range(5)}) > 1


def test_a_stop_text_ends_an_answer(client, form):
    words = client.post(CHAT, json=form).json()["choices"][0]["message"]["content"].split()
    answer = client.post(CHAT, json={**form, "stop": [f" {words[4]}"]}).json()["choices"][0]
    assert answer["message"]["content"] == " ".join(words[: words.index(words[4], 1)])
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        ({"preference": {"helpful": 0.7, "harmless": 0.4}}, 400, "sums to 1.1"),
        ({"preference": {"helpful": 1.0, "harmless": 0.0}}, 403, "asks for 0.1 at least"),
        ({"preference": {"helpful": 0.5, "funny": 0.5}}, 400, "funny, which is no objective"),
        ({"preference": 7}, 422, "preference is 7, which is none: give a weight for each of 'helpful', 'harmless'"),
        (
            {"preference": {"helpful": "0.7", "harmless": 0.3}},
            422,
            "preference is {'helpful': '0.7', 'harmless': 0.3},",
        ),
        ({"preference": None}, 422, "preference is missing: give a weight for each"),
        (
            {"stop": ["", "b"]},
            422,
            "stop is ['', 'b'], which is none: give a text of 1 to 64 characters",
        ),
        ({"strength": -1}, 422, "strength"),
        ({"strength": 1e308}, 422, "strength"),
        ({"strength": 0.5}, 403, "strength is 0.5"),
        ({"messages": [{"role": "user", "content": "w1 " * 300}]}, 400, "shorten it"),
        ({"max_tokens": 5000}, 400, "max_tokens is 5000"),
        ({"model": "other"}, 404, "there is no model 'other'"),
        ({"logprobs": True}, 422, "logprobs is no field of a request here, so leave it out."),
        ({"messages": [{"role": "user"}]}, 422, "messages.0.content is missing."),
        ({"stream_options": {"include_usage": True}}, 400, "no stream is asked for"),
        ({"messages": [{"role": "user", "content": "w1 \ud800"}]}, 422, "messages.0.content"),
    ],
)
def test_a_refusal_has_a_status_and_a_sentence(client, form, wrong, status, words):
    content = json.dumps({**form, **wrong})
    answer = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["message"].endswith(".")
    # Others are served on.
    assert client.post(CHAT, json=form).status_code == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the body is empty"),
        (b"[" * 100_000, "not nested deeply"),
        (b"\xff\xfe", "the body is no JSON, from character 0 on"),
        (b'{"model": "\xff"}', "JSON in UTF-8"),
        (b"{", "the body is no JSON, from character 1 on"),
        (b'"text"', "the body is JSON, and no object"),
        (b"null", "the body is"),
        (b"1e999", "the body is JSON, and no object"),
    ],
    ids=repr,
)
def test_a_body_that_is_no_form(client, content, words):
    answer = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["message"].endswith(".")
    assert error["param"] is None


def test_another_address_is_told_what_there_is(client):
    for answer in (client.get("/v1/engines"), client.get(CHAT)):
        assert "POST /v1/chat/completions, GET /v1/models or GET /health." in answer.json()["error"]["message"]


def test_a_page_of_a_stranger_is_not_answered(client, form):
    """A form's text needs no leave of the server to be sent by a browser; it is refused, and nothing is allowed."""
    answer = client.post(CHAT, content=json.dumps(form), headers={"Content-Type": "text/plain", "Origin": "http://x.y"})
    assert answer.status_code == 422
    assert "send it with the header 'Content-Type: application/json'" in answer.json()["error"]["message"]
    ahead = client.options(CHAT, headers={"Origin": "http://x.y", "Access-Control-Request-Method": "POST"})
    assert ahead.status_code == 405
    good = client.post(CHAT, json=form, headers={"Origin": "http://x.y"})
    for each in (answer, ahead, good):
        assert not [name for name in each.headers if name.startswith("access-control")]
    assert client.post(CHAT, json=form, headers={"Host": "x.y"}).status_code == 421


def test_what_the_server_is(client):
    (entry,) = client.get("/v1/models").json()["data"]
    assert (entry["id"], entry["objectives"]) == ("tiny", ["helpful", "harmless"])
    assert (entry["minimums"], entry["strength"]) == ({"harmless": 0.1}, [1.0, 1.0])
    assert entry["presets"] == {"balanced": {"helpful": 0.5, "harmless": 0.5}}
    assert client.get("/health").json() == {"status": "ok", "answering": 0, "waiting": 0}
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    client.server.worker.close()
    assert client.get("/health").status_code == 503


def test_a_token_is_asked_for(make_server, form):
    with client_of(make_server(token="x" * 20)) as client:
        assert client.post(CHAT, json=form).status_code == 401
        client.headers["Authorization"] = f"Bearer {'x' * 20}"
        assert client.post(CHAT, json=form).status_code == 200


def test_an_error_of_the_model_is_a_500_and_the_next_one_is_answered(client, form, monkeypatch, caplog):
    worker = client.server.worker

    def failing(requests):
        raise RuntimeError("secret of the machine")

    with monkeypatch.context() as patch:
        patch.setattr(worker._batch, "join", failing)
        answer = client.post(CHAT, json=form)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "failed"
    assert "secret" not in answer.text
    assert "secret of the machine" in caplog.text
    assert client.post(CHAT, json=form).status_code == 200


def emptied(server) -> None:
    """Wait until nobody is answered and nobody waits."""
    start = time.monotonic()
    while (server.worker.rows or len(server.worker.room)) and time.monotonic() - start < 20:
        time.sleep(0.01)
    assert (server.worker.rows, len(server.worker.room)) == (0, 0)


def gathered(server, forms, concurrent: int = 10_000):
    """The answers to all forms, asked at once."""

    async def asking():
        limit = asyncio.Semaphore(concurrent)
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=120) as client:

            async def ask(form):
                async with limit:
                    return await client.post(CHAT, json=form)

            server.worker.start()
            return await asyncio.gather(*map(ask, forms))

    return asyncio.run(asking())


def forms_of_a_crowd(form, count: int, **settings) -> list[dict]:
    source = random.Random(5)
    return [
        {
            **form,
            "messages": [{"role": "user", "content": " ".join(f"w{source.randrange(96)}" for _ in range(1 + n % 7))}],
            "preference": [weight := source.random(), 1 - weight],
            "max_tokens": 4 + n % 5,
            **settings,
        }
        for n in range(count)
    ]


def test_sixty_four_streams_each_as_alone(make_server, form, expected):
    server = make_server(rows=24, waiting=64)
    forms = forms_of_a_crowd(form, 64, stream=True)
    for each, answer in zip(forms, gathered(server, forms), strict=True):
        assert streamed(answer) == expected(each["messages"][0]["content"], each["preference"], each["max_tokens"])


def test_of_a_thousand_at_once_each_is_answered_or_told_to_come_later(make_server, form, expected):
    server = make_server(rows=8, waiting=32)
    forms = forms_of_a_crowd(form, 1000)
    answers = gathered(server, forms)
    statuses = [answer.status_code for answer in answers]
    assert len(statuses) == 1000
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 32
    for each, answer in zip(forms, answers, strict=True):
        if answer.status_code == 503:
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.json()["error"]["code"] == "busy"
        else:
            # Empty where the likeliest first token ends the answer.
            content = answer.json()["choices"][0]["message"]["content"]
            assert content == expected(each["messages"][0]["content"], each["preference"], each["max_tokens"])
    # The last token is told a moment before its row leaves.
    emptied(server)


def test_who_asks_too_long_is_told(make_server, form):
    from mopref.serving.launch import ServerSettings

    assert ServerSettings().seconds == 300
    with client_of(make_server(seconds=0.05)) as client:
        answer = client.post(CHAT, json={**form, "max_tokens": 240})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "late")
        assert "Retry-After" in answer.headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_leaves_the_batch(make_server, form, stream):
    """As a server tells it: the connection is gone while the answer is being made."""
    server = make_server(rows=2, seconds=60)
    server.worker.start()
    body = json.dumps({**form, "max_tokens": 245, "stream": stream}).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": CHAT,
        "raw_path": CHAT.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }

    async def asking():
        began, parts = asyncio.Event(), [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if parts:
                return parts.pop()
            while not server.worker.rows:
                await asyncio.sleep(0.005)
            began.set()
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        await asyncio.wait_for(server.app(scope, receive, send), 30)
        assert began.is_set()

    start = time.monotonic()
    asyncio.run(asking())
    emptied(server)
    assert time.monotonic() - start < 30


def test_over_a_real_connection(make_server, form, expected):
    """Uvicorn on a free port: a stream comes in pieces, a client that hangs up leaves, the server ends when told to."""
    from mopref.serving.listening import bound_socket, http_server

    server = make_server(rows=4)
    with bound_socket("127.0.0.1", 0) as bound:
        http = http_server(server.app)
        thread = threading.Thread(target=http.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        base = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=60) as client:
            while not http.started:
                time.sleep(0.01)
            with client.stream("POST", CHAT, json={**form, "stream": True}) as answer:
                pieces = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
            text = "".join(event["choices"][0]["delta"].get("content", "") for event in pieces)
            assert text == expected("w1 w2 w3", (0.7, 0.3), 8)
            assert len(pieces) > 3
            with client.stream("POST", CHAT, json={**form, "stream": True, "max_tokens": 245}) as answer:
                next(answer.iter_lines())
            for _ in range(500):
                if client.get("/health").json()["answering"] == 0:
                    break
                time.sleep(0.01)
            assert client.get("/health").json()["answering"] == 0
            assert "server" not in client.get("/health").headers
        http.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
        assert not server.worker.is_alive
