"""The page on a server: beside the API, behind the same rules, and nothing is asked of other machines."""

import base64
import socket

import pytest

pytest.importorskip("gradio")

TOKEN = "0123456789abcdef"


def basic(password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}"}


def test_the_page_and_the_api_are_both_there(pages):
    _, client = pages()
    page = client.get("/")
    assert page.status_code == 200
    assert "tiny · mopref" in page.text
    assert "fonts.googleapis" not in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
    assert client.get("/health").json()["status"] == "ok"
    form = {"messages": [{"role": "user", "content": "w1"}], "preference": "balanced", "max_tokens": 2}
    assert client.post("/v1/chat/completions", json=form).status_code == 200


def test_another_host_and_another_origin_are_refused(pages):
    _, client = pages()
    assert client.get("/", headers={"Host": "example.com"}).status_code == 421
    join = client.post("/gradio_api/queue/join", json={}, headers={"Origin": "http://localhost:1"})
    assert join.status_code == 403
    assert not [name for name in join.headers if name.startswith("access-control")]


def test_a_token_protects_the_page_too(pages):
    _, client = pages(token=TOKEN)
    for path in ("/", "/config", "/assets/index.js", "/gradio_api/queue/data"):
        refused = client.get(path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
    assert client.get("/", headers=basic("wrong")).status_code == 401
    assert client.get("/", headers={"Authorization": "Basic ?"}).status_code == 401
    assert client.get("/", headers=basic(TOKEN)).status_code == 200
    # A browser's password opens the page, and not the API: its requests say Bearer.
    assert client.get("/v1/models", headers=basic(TOKEN)).status_code == 401
    assert client.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_nothing_is_asked_of_another_machine_and_nothing_is_shared(make_llama, randomise, monkeypatch):
    from _page_servers import page_server
    from fastapi.testclient import TestClient

    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: asked.append(arguments) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    server = page_server(make_llama, randomise)
    with TestClient(server.app, base_url="http://localhost") as client:
        config = client.get("/config").json()
        client.get("/")
    assert not asked
    assert config["analytics_enabled"] is False
    assert not config.get("is_space")


def test_programs_find_no_doors_but_the_api(pages):
    _, client = pages()
    config = client.get("/config").json()
    assert {each["api_visibility"] for each in config["dependencies"]} == {"private"}
