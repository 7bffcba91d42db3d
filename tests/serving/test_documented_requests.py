"""The requests of docs/server.md as they are written, of OpenAI's client and of curl, answered by a tiny model."""

import json
import re
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from mopref.serving.listening import bound_socket, http_server

for package in ("fastapi", "openai", "uvicorn"):
    pytest.importorskip(package)

PAGE = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")


@pytest.fixture
def base(make_server):
    """The address of a server in this process."""
    with bound_socket("127.0.0.1", 0) as bound:
        http = http_server(make_server(name="first").app)
        thread = threading.Thread(target=http.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not http.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        http.should_exit = True
        thread.join(30)


def test_the_clients_lines(base, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(block.replace("http://127.0.0.1:8000", base), names)
    assert names["answer"].preference == {"helpful": 0.7, "harmless": 0.3}
    # By how many tokens is chance: the page asks for no seed.
    assert capsys.readouterr().out.startswith(names["answer"].choices[0].message.content)
    assert names["piece"].choices[0].finish_reason in ("stop", "length")


def test_the_request_of_curl(base):
    (body,) = re.findall(r"-d '(.*?)'\n", PAGE, re.DOTALL)
    request = urllib.request.Request(f"{base}/v1/chat/completions", body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["usage"]["completion_tokens"] > 0


@pytest.mark.slow
def test_no_request_of_the_schema_gets_another_status_than_the_documented_ones(base):
    """That a request of its schema is taken is not asked: that weights sum to 1 is more than a schema says."""
    pytest.importorskip("schemathesis")
    import subprocess
    import sys

    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{base}/openapi.json", "--checks", "all"]
    options = ["--exclude-checks", "positive_data_acceptance", "--max-examples", "200", "--continue-on-failure"]
    result = subprocess.run([*command, *options], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:]
