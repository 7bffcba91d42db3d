"""Which doors of the page are open, and to whom; what its answers forbid a browser."""

import asyncio

import pytest

pytest.importorskip("starlette")

from mopref.serving.page.gate import PageGate, is_of_the_page


async def inner(scope, receive, send):
    headers = [(b"Access-Control-Allow-Origin", b"*"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"in"})


def asked(method, path, **headers):
    sent = []

    async def send(message):
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in {"host": "localhost:8000", **headers}.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}
    asyncio.run(PageGate(inner)(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/assets/index-1a_B.js"),
        ("GET", "/theme.css"),
        ("POST", "/gradio_api/queue/join"),
        ("GET", "/gradio_api/queue/data"),
        ("GET", "/gradio_api/heartbeat/a1b2"),
        ("POST", "/gradio_api/cancel"),
    ],
)
def test_what_the_page_needs_is_open(method, path):
    status, headers = asked(method, path)
    assert status == 200
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert not [name for name in headers if name.lower().startswith(b"access-control")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://example.com"),
        ("POST", "/gradio_api/call/chat"),
        ("POST", "/gradio_api/run/predict"),
        ("GET", "/gradio_api/info"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/assets/../secret"),
        ("GET", "/monitoring"),
        ("GET", "/login"),
        ("OPTIONS", "/gradio_api/queue/join"),
        ("DELETE", "/"),
        ("GET", "/v1"),
    ],
)
def test_all_else_is_shut(method, path):
    assert asked(method, path)[0] == 404


@pytest.mark.parametrize("origin", ["http://localhost:9000", "http://example.com", "null", "https://localhost"])
def test_another_origin_is_refused(origin):
    assert asked("POST", "/gradio_api/queue/join", origin=origin)[0] == 403
    assert asked("POST", "/gradio_api/queue/join", origin="http://localhost:8000")[0] == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health", "/openapi.json", "/v1/none"])
def test_the_api_goes_through_as_it_is(path):
    assert not is_of_the_page(path)
    status, headers = asked("DELETE", path, origin="http://example.com")
    assert status == 200
    assert b"content-security-policy" not in headers


def test_a_page_that_is_open_does_not_hold_a_server_that_ends():
    async def beating(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    async def open_page():
        gate, parts = PageGate(beating), [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive():
            return parts.pop() if parts else await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "path": "/gradio_api/heartbeat/a1", "headers": []}
        task = asyncio.create_task(gate(scope, receive, None))
        await asyncio.sleep(0.02)
        assert not task.done()
        gate.let_go()
        await asyncio.wait_for(task, 5)
        assert not gate._beating

    asyncio.run(open_page())
