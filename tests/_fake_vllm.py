"""A server on the loopback address that answers as vLLM does, from a tiny model of transformers, in this process."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


class FakeVLLM(ThreadingHTTPServer):
    """Samples from ``base`` with the LoRAs that it was told to load, and remembers what it was asked.

    Attributes:
        asked: paths and forms.
        loaded: W + B A of each adapted layer, by the names of LoRAs.
        most_rank: larger LoRAs are refused.
        raw: whether log-probabilities are those before temperature, stop tokens and vocabulary.
        shift: added to every log-probability.
        answer: what answers a completion in place of the model, if anything.
    """

    daemon_threads = True

    def __init__(self, base: torch.nn.Module) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.base, self.lock = base, threading.Lock()
        self.asked: list[tuple[str, Any]] = []
        self.loaded: dict[str, dict[str, torch.Tensor]] = {}
        self.most_rank, self.most_tokens, self.raw, self.shift, self.answer = 16, 64, False, 0.0, None
        self.token: str | None = None
        self.updates = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def load(self, name: str, folder: Path) -> str | None:
        """Load a LoRA; what is wrong with it, if anything is."""
        if name in self.loaded:
            return f"The lora adapter '{name}' has already been loaded."
        if not folder.is_dir():
            return f"No adapter found for {folder}"
        settings = json.loads((folder / "adapter_config.json").read_text())
        if settings["r"] > self.most_rank:
            return f"LoRA rank {settings['r']} is greater than max_lora_rank {self.most_rank}."
        tensors = load_file(folder / "adapter_model.safetensors")
        weights = {}
        for layer in settings["target_modules"]:
            a, b = (tensors[f"base_model.model.{layer}.lora_{part}.weight"] for part in "AB")
            weight = self.base.get_submodule(layer).weight
            if (b.shape[0], a.shape[1]) != tuple(weight.shape):
                return f"the shapes of {layer} do not fit"
            weights[f"{layer}.weight"] = weight.detach() + settings["lora_alpha"] / settings["r"] * (b @ a)
        self.loaded[name] = weights
        return None

    def complete(self, form: dict[str, Any]) -> dict[str, Any]:
        """As vLLM's completions answer, one token after another without a cache."""
        choices = []
        for number in range(form["n"]):
            generator = torch.Generator().manual_seed((form["seed"] + number) % 2**63)
            ids, values = self._sample(form, generator)
            told = {"tokens": [f"token_id:{token}" for token in ids], "token_logprobs": values}
            choices.append({"index": number, "token_ids": ids, "logprobs": told, "finish_reason": "length"})
        return {"choices": choices}

    def _sample(self, form: dict[str, Any], generator: torch.Generator) -> tuple[list[int], list[float]]:
        ids: list[int] = []
        values: list[float] = []
        stops = form["stop_token_ids"]
        while len(ids) < form["max_tokens"]:
            inputs = torch.tensor([[*form["prompt"], *ids]])
            with torch.no_grad():
                weights = self.loaded[form["model"]]
                logits = torch.func.functional_call(self.base, weights, (inputs,)).logits[0, -1].double()
            raw, logits = logits.log_softmax(-1), logits.clone()
            for token, bias in form.get("logit_bias", {}).items():
                logits[int(token)] += bias
            if "allowed_token_ids" in form:
                kept = torch.full_like(logits, -torch.inf)
                kept[form["allowed_token_ids"]] = logits[form["allowed_token_ids"]]
                logits = kept
            if len(ids) < form["min_tokens"]:
                logits[stops] = -torch.inf
            own = (logits / form["temperature"]).log_softmax(-1)
            own = _cut(own, form["top_p"])
            token = int(torch.multinomial(own.exp(), 1, generator=generator))
            ids.append(token)
            values.append(float((raw if self.raw else own)[token]) + self.shift)
            if token in stops:
                break
        return ids, values


def _cut(values: torch.Tensor, top_p: float) -> torch.Tensor:
    """log π without the least likely tokens, of which the others have ``top_p`` together."""
    if top_p == 1:
        return values
    order = values.argsort(descending=True)
    before = values[order].exp().cumsum(0) - values[order].exp()
    return values.index_fill(0, order[before >= top_p], -torch.inf).log_softmax(-1)


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append((self.path, None))
        if self._is_refused():
            return
        entries = [{"id": "base", "max_model_len": self.server.most_tokens}]
        self._say(200, {"data": entries})

    def do_POST(self) -> None:
        server = self.server
        form = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append((self.path, form))
        if self._is_refused():
            return
        if self.path == "/v1/completions":
            with server.lock:
                self._say(200, server.complete(form) if server.answer is None else server.answer)
        elif not server.updates:
            self._say(404, {"detail": "Not Found"})
        elif self.path == "/v1/load_lora_adapter":
            # In turn: while it samples, the base has other weights.
            with server.lock:
                problem = server.load(form["lora_name"], Path(form["lora_path"]))
            self._say(200 if problem is None else 500, {"error": {"message": problem}} if problem else "done")
        else:
            is_there = server.loaded.pop(form["lora_name"], None) is not None
            self._say(200 if is_there else 404, "done")

    def _is_refused(self) -> bool:
        token = self.server.token
        if token is None or self.headers.get("Authorization") == f"Bearer {token}":
            return False
        self._say(401, {"error": "Unauthorized"})
        return True

    def _say(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def fake_vllm(base: torch.nn.Module) -> Iterator[FakeVLLM]:
    """A running server, which is closed at the end."""
    with FakeVLLM(base) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
