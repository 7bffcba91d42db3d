"""JSON over HTTP: what a server says no to, answers that are none, and nothing that follows anywhere else."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mopref.llm.engines.json_client import JsonClient, StatusError


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        status, headers, body = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.server.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def client_of(server, timeout: float = 5.0) -> JsonClient:
    return JsonClient(f"http://127.0.0.1:{server.server_port}", timeout, "A_KEY_THAT_NOBODY_HAS")


@pytest.mark.parametrize(
    ("body", "content"), [(b'{"a": [1]}', {"a": [1]}), (b"[2]", [2]), (b"Success: loaded.", None), (b"", None)]
)
def test_answers(server, body, content):
    server.answer = (200, {}, body)
    client = client_of(server)
    assert client.ask("/x") == content
    assert client.ask("/x", {"λ": 1.5}) == content
    assert server.body == b'{"\\u03bb": 1.5}'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": {"message": "no such  model."}}', "no such model"),
        (b'{"error": "Unauthorized"}', "Unauthorized"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"plain\nwords", "plain words"),
        (b"", "no reason"),
        (b"[1]", "[1]"),
        (b'{"error": {"message": "\\u001b[31mred"}}', "\\x1b[31mred"),
        (b'"' + b"x" * 10_000 + b'"', "x" * 100),
    ],
)
def test_a_no_is_told_by_its_reason_fit_to_be_printed(server, body, reason):
    server.answer = (404, {}, body)
    with pytest.raises(StatusError) as caught:
        client_of(server).ask("/x")
    assert caught.value.status == 404
    assert reason in caught.value.reason
    assert len(caught.value.reason) < 500
    assert "\x1b" not in str(caught.value)


def test_a_redirect_is_not_followed(server):
    server.answer = (302, {"Location": "http://127.0.0.1:1/"}, b"")
    with pytest.raises(StatusError, match="302"):
        client_of(server).ask("/x")


def test_what_is_no_json_is_told(server):
    server.answer = (200, {}, b"{half")
    with pytest.raises(ConnectionError, match="no JSON: is it vLLM"):
        client_of(server).ask("/x")


def test_an_answer_that_is_too_long_is_not_taken(server, monkeypatch):
    monkeypatch.setattr("mopref.llm.engines.json_client._MOST_BYTES", 1 << 20)
    server.answer = (200, {}, b"[" + b" " * (1 << 20) + b"]")
    with pytest.raises(ConnectionError, match="more than 1 MiB"):
        client_of(server).ask("/x")


def test_a_server_that_keeps_silent_or_talks_otherwise():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = JsonClient(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2, "A_KEY_THAT_NOBODY_HAS")
        with pytest.raises(ConnectionError, match=r"does not answer .timed out"):
            client.ask("/x")


def test_proxies_of_the_environment_play_no_part(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.answer = (200, {}, b"[]")
    assert client_of(server).ask("/x") == []
