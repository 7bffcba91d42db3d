"""Servers with a page, and visitors who speak to it as a browser does."""

import json
from contextlib import ExitStack
from typing import Any

import pytest
from _page_servers import page_server


class Visitor:
    """A session: presses what is on the page, by its events."""

    def __init__(self, client: Any, session: str) -> None:
        self._client, self._session = client, session
        self._config = client.get("/config").json()

    def place(self, **wanted: Any) -> int:
        """The number of the component with these properties."""
        (found,) = [
            each["id"]
            for each in self._config["components"]
            if all(each["props"].get(name) == value for name, value in wanted.items())
        ]
        return found

    def does(self, event: str, place: int, *values: Any) -> list[Any]:
        """What an event of a component leads to: all outputs, whole, of its last answer. States are the server's."""
        (call,) = [
            each for each in self._config["dependencies"] if [place, event] in each["targets"] and each["outputs"]
        ]
        states = {each["id"] for each in self._config["components"] if each["type"] == "state"}
        given = iter(values)
        data = [None if each in states else next(given) for each in call["inputs"]]
        body = {"data": data, "fn_index": call["id"], "session_hash": self._session, "trigger_id": place}
        assert self._client.post("/gradio_api/queue/join", json=body).status_code == 200
        answer = self._client.get("/gradio_api/queue/data", params={"session_hash": self._session})
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        (end,) = [each for each in events if each["msg"] == "process_completed"]
        assert end["success"], end
        steps = [each["output"]["data"] for each in events if each["msg"] == "process_generating"]
        return _whole(steps) if steps else end["output"]["data"]


def _whole(steps: list[list[Any]]) -> list[Any]:
    """The last outputs: after the first, each step says what changed."""
    from gradio_client.utils import apply_diff

    shown = list(steps[0])
    for step in steps[1:]:
        shown = [apply_diff(old, change) for old, change in zip(shown, step, strict=True)]
    return shown


@pytest.fixture(scope="module")
def pages(make_llama, randomise):
    """Factory of servers with a page and their clients, each made once for a file."""
    pytest.importorskip("gradio")
    from fastapi.testclient import TestClient

    made: dict[str, Any] = {}
    with ExitStack() as stack:

        def make(m: int = 2, **settings):
            key = f"{m} {settings}"
            if key not in made:
                server = page_server(make_llama, randomise, m, **settings)
                made[key] = server, stack.enter_context(TestClient(server.app, base_url="http://localhost"))
            return made[key]

        yield make


@pytest.fixture
def visitors(pages, request):
    """Factory of a server and its visitors by name; no test meets those of another one."""

    def make(*names: str, m: int = 2, **settings):
        server, client = pages(m, **settings)
        return server, *(Visitor(client, f"{name}{abs(hash(request.node.name))}") for name in names)

    return make
