"""A server of a folder: settings that are checked, before the model where that can be."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from mopref.serving.launch import ServerSettings, make_server, serve_model
from mopref.serving.opening import Opened


@pytest.mark.parametrize("name", ["rows", "waiting", "new_tokens", "context", "body_bytes"])
def test_counts_are_at_least_one(name):
    with pytest.raises(ValueError, match=f"{name} is 0: it must be at least 1"):
        ServerSettings(**{name: 0})


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_seconds_are_positive(seconds):
    with pytest.raises(ValueError, match="seconds is"):
        ServerSettings(seconds=seconds)


def test_a_count_is_told_by_its_flag():
    with pytest.raises(ValueError, match=r"new_tokens is 0: it must be at least 1 \(--max-tokens of mopref serve\)\.$"):
        ServerSettings(new_tokens=0)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[2J"])
def test_a_name_is_one_line(name):
    with pytest.raises(ValueError, match=r"^name is .*: give one line of text"):
        ServerSettings(name=name)


def ask(server, preference=(0.5, 0.5)):
    from fastapi.testclient import TestClient

    form = {"messages": [{"role": "user", "content": "red cat"}], "preference": preference, "max_tokens": 3}
    with TestClient(server.app, base_url="http://localhost") as client:
        return client.post("/v1/chat/completions", json={**form, "temperature": 0})


def test_a_folder_is_served_also_when_it_is_replaced(trained, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(trained.folder / "adapter", folder)
    server = make_server(folder, ServerSettings())
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    answer = ask(server)
    assert answer.status_code == 200
    assert answer.json()["model"] == server.terms.name == "mine"
    assert server.terms.context == 256


def test_settings_that_do_not_fit_are_told_before_the_model_is_loaded(trained, monkeypatch):
    monkeypatch.setattr("mopref.serving.launch.open_model", None)
    with pytest.raises(ValueError, match="'harmles', but the objectives are"):
        make_server(trained.folder, ServerSettings(minimums={"harmles": 0.3}))
    with pytest.raises(ValueError, match="'wild' is refused"):
        make_server(trained.folder, ServerSettings(minimums={"harmless": 0.3}, presets={"wild": [0.8, 0.2]}))


def test_a_bound_on_a_preference_that_says_something_else_is_refused(model, tokenizer):
    model.preference_convention = "ray"
    with pytest.raises(ValueError, match="minimums are set for a model whose preferences say a direction"):
        serve_model(Opened(model, tokenizer), ServerSettings(minimums={"harmless": 0.3}))
    serve_model(Opened(model, tokenizer), ServerSettings())


def test_a_local_server_is_asked_by_a_local_name_and_a_public_one_by_any(make_server, form):
    from fastapi.testclient import TestClient

    for host, status in (("127.0.0.1", 421), ("0.0.0.0", 200)):
        server = make_server(host=host)
        with TestClient(server.app, base_url="http://example.com") as client:
            assert client.post("/v1/chat/completions", json=form).status_code == status


def test_pairs_without_a_page_are_refused():
    with pytest.raises(ValueError, match="there is no page that asks about them"):
        ServerSettings(pairs="pairs.jsonl")


def test_a_page_is_served_beside_the_api_and_writes_nothing(trained, tmp_path):
    pytest.importorskip("gradio")
    from fastapi.testclient import TestClient

    import mopref.serving.page as package

    folder = tmp_path / "mine"
    shutil.copytree(trained.folder, folder)
    source = Path(package.__file__).parent
    before = [sorted(each.rglob("*.*")) for each in (folder, source)]
    server = make_server(folder, ServerSettings(page=True))
    with TestClient(server.app, base_url="http://localhost") as client:
        values = {each["props"].get("elem_id"): each["props"] for each in client.get("/config").json()["components"]}
        assert client.get("/health").json()["status"] == "ok"
    assert "<svg" in values["front"]["value"]
    assert "begin" in values
    assert [sorted(each.rglob("*.*")) for each in (folder, source)] == before


def test_pairs_that_are_none_are_told_before_the_model_is_loaded(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("mopref.serving.launch.open_model", None)
    (tmp_path / "pairs.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="row 0 of"):
        make_server(trained.folder, ServerSettings(page=True, pairs=str(tmp_path / "pairs.jsonl")))
