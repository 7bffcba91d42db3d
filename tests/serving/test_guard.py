"""Before the application: host, token, size and time of a request."""

import asyncio
import base64

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("starlette")

from mopref.serving.guard import Guard  # noqa: E402

TOKEN = "a-token-of-some-length"


async def echo(scope, receive, send):
    """Answers with the body that it gets, and how often it had to ask."""
    message = await receive()
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def ask(guard: Guard, method: str = "POST", path: str = "/v1", host: str = "localhost", **options):
    async def asked():
        transport = httpx.ASGITransport(guard)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, **options)

    return asyncio.run(asked())


def test_a_whole_body_comes_in_one_piece():
    async def parts():
        for _ in range(5):
            yield b"abc"

    assert ask(Guard(echo), content=parts()).content == b"abc" * 5


@pytest.mark.parametrize("told", [True, False])
def test_a_large_body_is_refused_whether_it_says_so_or_not(told):
    async def parts():
        for _ in range(5):
            yield b"abc"

    answer = ask(Guard(echo, body_bytes=14), content=b"abc" * 5 if told else parts())
    assert answer.status_code == 413
    assert "14 bytes at most" in answer.json()["error"]["message"]
    assert ask(Guard(echo, body_bytes=15), content=b"abc" * 5 if told else parts()).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for():
    sent = []

    async def never():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/v1", "headers": [], "method": "POST"}
    asyncio.run(Guard(echo, body_seconds=0.05)(scope, never, send))
    assert sent[0]["status"] == 408


def test_nobody_is_answered_who_hung_up():
    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError(message)

    asyncio.run(Guard(echo)({"type": "http", "path": "/v1", "headers": []}, gone, send))


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN])
def test_a_wrong_token_is_refused(given):
    answer = ask(Guard(echo, token=TOKEN), headers={} if given is None else {"Authorization": given})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_token_is_let_in(scheme):
    assert ask(Guard(echo, token=TOKEN), headers={"Authorization": f"{scheme} {TOKEN}"}).status_code == 200


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr("mopref.serving.guard.hmac.compare_digest", lambda *both: compared.append(both) or True)
    ask(Guard(echo, token=TOKEN), headers={"Authorization": "Bearer other"})
    assert compared == [(b"other", TOKEN.encode())]


def test_a_token_is_asked_for_before_the_body_is_read():
    async def failing():
        raise AssertionError("read")

    async def send(message):
        statuses.append(message.get("status"))

    statuses: list = []
    asyncio.run(Guard(echo, token=TOKEN)({"type": "http", "path": "/v1", "headers": []}, failing, send))
    assert statuses[0] == 401


def test_health_needs_no_token():
    assert ask(Guard(echo, token=TOKEN), path="/health").status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST"])
def test_a_local_server_is_asked_by_local_names(host):
    hosts = frozenset({"localhost", "127.0.0.1", "::1"})
    assert ask(Guard(echo, hosts=hosts), host=host).status_code == 200


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "127.0.0.1.nip.io", "[::2]:80"])
def test_a_page_whose_name_was_turned_to_it_is_refused(host):
    hosts = frozenset({"localhost", "127.0.0.1", "::1"})
    assert ask(Guard(echo, hosts=hosts), host=host).status_code == 421
    assert ask(Guard(echo), host=host).status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/v1/models", 401)])
def test_a_browser_gives_the_token_as_a_password_on_the_page_only(path, status):
    guard = Guard(echo, token=TOKEN, for_browsers=lambda path: not path.startswith("/v1"))
    password = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert ask(guard, path=path, headers={"Authorization": f"Basic {password}"}).status_code == status
    assert ask(guard, path=path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("given", ["", "?", "bWU6", "OjAxMjM=", "\u00e4"])
def test_a_wrong_password_is_asked_for_again(given):
    guard = Guard(echo, token=TOKEN, for_browsers=lambda _: True)
    answer = ask(guard, path="/", headers={"Authorization": f"Basic {given}".encode("latin-1")})
    assert (answer.status_code, answer.headers["www-authenticate"][:5]) == (401, "Basic")
