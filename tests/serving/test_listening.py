"""Where the server listens, and to whom."""

import socket
import threading
import time

import pytest

from mopref.serving.listening import bound_socket, check_exposure, is_loopback, read_token, run_server

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_nothing(host):
    assert is_loopback(host)
    check_exposure(host, False, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4", "example.com", ""])
def test_other_machines_need_a_word_and_a_token(host):
    assert not is_loopback(host)
    with pytest.raises(ValueError, match="say so with --public"):
        check_exposure(host, False, TOKEN)
    with pytest.raises(ValueError, match="give a --token-file"):
        check_exposure(host, True, None)
    check_exposure(host, True, TOKEN)


def test_a_word_that_does_nothing_is_refused():
    with pytest.raises(ValueError, match=r"which only this machine reaches, and --public is said: give the --host"):
        check_exposure("127.0.0.1", True, TOKEN)


@pytest.fixture
def write(tmp_path):
    def write(content: bytes, mode: int = 0o600):
        path = tmp_path / "token"
        path.write_bytes(content)
        path.chmod(mode)
        return path

    return write


def test_a_token_is_a_line_of_a_file(write, recwarn):
    assert read_token(write(f"  {TOKEN}\n".encode())) == TOKEN
    assert not recwarn.list


def test_a_token_that_others_can_read_is_told(write):
    with pytest.warns(UserWarning, match="chmod 600"):
        read_token(write(TOKEN.encode(), 0o644))


@pytest.mark.parametrize(
    "content", [b"", b"short", b"two words of length", b"\xff" * 20, b"a" * 5000, b"a" * 20 + b"\nb"]
)
def test_what_is_no_token_is_refused_and_not_shown(write, content):
    with pytest.raises(ValueError, match="holds no token") as caught:
        read_token(write(content))
    assert content.decode("latin-1") not in str(caught.value) or not content


def test_no_file_no_token(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_token(tmp_path / "none")
    with pytest.raises(ValueError, match="no plain file"):
        read_token(tmp_path)


def test_a_port_is_taken_once():
    with bound_socket("127.0.0.1", 0) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port}, cannot be listened at"):
            bound_socket("127.0.0.1", port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_there_is_not(port):
    with pytest.raises(ValueError, match="port is"):
        bound_socket("127.0.0.1", port)


def test_a_host_that_there_is_not():
    with pytest.raises(ValueError, match="cannot be listened at"):
        bound_socket("no.such.host.invalid", 0)


def test_a_server_runs_until_it_is_told_to_end(monkeypatch):
    pytest.importorskip("uvicorn")
    from mopref.serving import listening

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})

    made = []
    make = listening.http_server
    monkeypatch.setattr(listening, "http_server", lambda app: made.append(make(app)) or made[-1])
    with bound_socket("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=run_server, args=(app, bound), daemon=True)
        thread.start()
        while not (made and made[0].started):
            time.sleep(0.01)
        with socket.create_connection(bound.getsockname()) as asker:
            asker.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: asker.recv(1000), b""))
        assert b"here" in answer
        assert b"uvicorn" not in answer
        made[0].should_exit = True
        thread.join(30)
    assert not thread.is_alive()
