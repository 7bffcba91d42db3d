"""``mopref serve --engine vllm``: the command is printed or run, and no flag is passed over."""

import json
import os
import shlex

import pytest

from mopref.cli import main
from mopref.cli.serve_vllm import given_flags


@pytest.fixture
def executed(monkeypatch):
    """What would take this process's place."""
    calls: list = []
    monkeypatch.setattr(os, "execvpe", lambda *arguments: calls.append(arguments))
    return calls


def serve(folder, *flags) -> int:
    return main(["serve", str(folder), "--engine", "vllm", *flags])


def test_the_command_is_printed(trained, executed, capsys, tmp_path):
    presets, token = tmp_path / "presets.json", tmp_path / "token"
    presets.write_text(json.dumps({"safe": [0.2, 0.8]}))
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    flags = ["--name", "hh", "--port", "81", "--max-context", "64", "--presets", str(presets)]
    assert serve(trained.folder, *flags, "--token-file", str(token)) == 0
    text = capsys.readouterr().out
    words = shlex.split(text)
    assert f"MOPREF_ADAPTERS=hh={trained.folder.absolute() / 'adapter'}" in words
    assert f"MOPREF_PRESETS={presets}" in words
    assert words[words.index("--max-model-len") + 1] == "64"
    assert "--max-num-seqs" not in words, "what is not written is left to vLLM"
    assert f"VLLM_API_KEY=$(cat {token})" in words
    assert "0123456789abcdef" not in text
    assert not executed


def test_it_is_run_in_the_environment_of_vllm(trained, executed, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    assert serve(trained.folder, "--run", "--python", "/vllm/bin/python", "--token-file", str(token)) == 0
    ((program, arguments, environment),) = executed
    assert program == arguments[0] == "/vllm/bin/python"
    assert environment["VLLM_API_KEY"] == "0123456789abcdef"
    assert not any("0123456789abcdef" in argument for argument in arguments)
    assert environment["VLLM_PLUGINS"] == "mopref"
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--minimum", "harmless=.3"], "--minimum is not kept by vLLM: a bound needs mopref's own server"),
        (["--preset", "a:helpful=.4,harmless=.6"], "--preset is not kept by vLLM: write it into a file"),
        (["--max-queue", "3"], "--max-queue is not kept by vLLM"),
        (["--deadline=3"], "--deadline is not kept by vLLM"),
        (["--run"], "--run needs --python"),
        (["--host", "0.0.0.0"], "say so with --public"),
        (["--host", "0.0.0.0", "--public"], "give a --token-file"),
        (["--presets", "none.json"], "none.json"),
        (["--port", "0"], "port is 0"),
    ],
)
def test_a_flag_that_is_not_kept_is_refused(trained, executed, capsys, flags, words):
    assert serve(trained.folder, *flags) == 2
    assert words in capsys.readouterr().err
    assert not executed


@pytest.mark.parametrize("flags", [["--run"], ["--python", "x"], ["--max-loras", "3"]])
def test_flags_of_vllm_alone_are_refused_by_the_own_server(trained, capsys, flags):
    assert main(["serve", str(trained.folder), *flags]) == 2
    assert f"{flags[0]} is vLLM's: leave it out, or say --engine vllm" in capsys.readouterr().err


def test_flags_are_told_from_values():
    assert given_flags(["x", "--a", "1", "--b=--c", "-d"]) == ["--a", "--b"]
