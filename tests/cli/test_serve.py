"""``mopref serve``: mistakes are told before the model is loaded; a real process answers and ends by a signal."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from mopref.cli import main


@pytest.fixture
def served(monkeypatch):
    """What would be served, in place of serving it."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    calls: list = []
    monkeypatch.setattr("mopref.serving.listening.run_server", lambda *arguments: calls.append(arguments))
    return calls


def test_a_run_is_served_with_what_its_operator_allows(trained, served, capsys, monkeypatch):
    from fastapi.testclient import TestClient

    flags = ["--minimum", "harmless=.3", "--preset", "gentle:helpful=.4,harmless=.6", "--port", "0", "--name", "mine"]
    limits = ["--max-batch", "3", "--max-queue", "5", "--max-tokens", "7", "--max-context", "50"]
    assert main(["serve", str(trained.folder), *flags, *limits]) == 0
    ((app, bound),) = served
    assert bound.fileno() == -1, "the socket is closed at the end"
    assert "mine answers at http://127.0.0.1:" in capsys.readouterr().err
    with TestClient(app, base_url="http://localhost") as client:
        (entry,) = client.get("/v1/models").json()["data"]
    assert entry["minimums"] == {"harmless": 0.3}
    assert entry["presets"]["gentle"] == {"helpful": 0.4, "harmless": 0.6}
    assert (entry["id"], entry["max_tokens"], entry["context"]) == ("mine", 7, 50)


def test_presets_come_from_a_file_too(trained, served, tmp_path, capsys):
    from fastapi.testclient import TestClient

    path = tmp_path / "presets.json"
    path.write_text(json.dumps({"safe": {"helpful": 0.2, "harmless": 0.8}, "even": [0.5, 0.5]}))
    flags = ["--presets", str(path), "--preset", "gentle:helpful=.4,harmless=.6", "--port", "0"]
    assert main(["serve", str(trained.folder), *flags]) == 0
    with TestClient(served[0][0], base_url="http://localhost") as client:
        (entry,) = client.get("/v1/models").json()["data"]
    assert entry["presets"]["safe"] == {"helpful": 0.2, "harmless": 0.8}
    assert {"even", "gentle"} < entry["presets"].keys()
    assert main(["serve", str(trained.folder), "--presets", str(path), "--preset", "safe:helpful=1,harmless=0"]) == 2
    assert "--preset names safe twice, or once beside the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--minimum", "harmless"], "--minimum is 'harmless': 'harmless' is no name and number, as in harmless=0.3"),
        (["--minimum", "harmless=.1", "--minimum", "harmless=.2"], "'harmless' is there twice"),
        (["--minimum", "harmles=.1"], "'harmles', but the objectives are"),
        (["--preset", "helpful=.4,harmless=.6"], "--preset is 'helpful=.4,harmless=.6': write a name and weights"),
        (["--preset", "x:helpful=.4,harmless=.7"], "sums to 1.1"),
        (["--host", "0.0.0.0"], "say so with --public"),
        (["--host", "0.0.0.0", "--public"], "give a --token-file"),
        (["--token-file", "none"], "the token's file none cannot be read"),
        (["--port", "70000"], "port is 70000"),
        (["--max-batch", "0"], "rows is 0"),
        (["--deadline", "-1"], "seconds is -1"),
        (["--pairs", "none"], "there is no page that asks about them"),
        (["--page", "--pairs", "none"], "there is no file none"),
        (["--engine", "other"], "--engine"),
    ],
)
def test_a_mistake_is_told_before_the_model_is_loaded(trained, served, capsys, monkeypatch, flags, words):
    monkeypatch.setattr("mopref.serving.launch.open_model", None)
    assert main(["serve", str(trained.folder), "--port", "0", *flags]) == 2
    assert words in capsys.readouterr().err
    assert not served


def test_another_folder_is_told(tmp_path, served, capsys):
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "holds neither a run nor an adapter" in capsys.readouterr().err


def test_without_the_packages_the_extra_is_named(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.setattr("mopref.serving.opening.open_model", None)
    assert main(["serve", str(trained.folder), "--port", "0"]) == 2
    assert "the package fastapi is missing; run pip install 'mopref[serve]'" in capsys.readouterr().err


def test_a_page_is_told_where_it_is_and_what_it_needs(trained, served, capsys, monkeypatch):
    pytest.importorskip("gradio")
    assert main(["serve", str(trained.folder), "--port", "0", "--page"]) == 0
    assert "Its page is at http://127.0.0.1:" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["serve", str(trained.folder), "--port", "0", "--page"]) == 2
    assert "the package gradio is missing; run pip install 'mopref[page]'" in capsys.readouterr().err


def test_a_real_process_answers_and_ends_by_a_signal(trained):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "mopref", "serve", str(trained.folder), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        lines = iter(process.stderr.readline, "")
        base = next(line.split()[3] for line in lines if "answers at" in line)
        form = {
            "messages": [{"role": "user", "content": "red cat"}],
            "preference": {"helpful": 0.7, "harmless": 0.3},
            "max_tokens": 3,
        }
        request = urllib.request.Request(
            f"{base}/chat/completions", json.dumps(form).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["preference"] == form["preference"]
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()
