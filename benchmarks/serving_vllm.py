"""A real vLLM with mopref's plugin: each request under its own λ, against ``PreferenceModel.generate``.

    make serve-vllm-test
    python benchmarks/serving_vllm.py --python VLLM/bin/python --adapter TWO --adapter-of-three THREE

vLLM lives in an environment of its own, with mopref installed there; the first command makes one, of the build for
CPUs. The script starts its server on a free port of the loopback address, and ends it again. Without adapters of yours
it takes SmolLM2-135M with random ones, whose parameters are small enough for λ to change words and not to end sense.

* **Tokens**: so many requests at once, each with its own λ, greedy; each has to give the tokens of ``generate`` at the
  rounded λ, or differ first where the two best logits are within a thousandth of each other.
* **Names** that are wrong have to be answered by 4xx.
* **The cache**: 500 λ of three objectives in sequence leave at most ``--kept`` LoRAs on the disk, and the first λ,
  long dropped, is then served again.
* **Throughput** of 8 requests at once: of 8 λ, over that of the same requests on one LoRA that the server was started
  with, in turns.

It ends with 1 where one of these is not so (a throughput below .7).
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from vllm_server import vllm_server

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.conditioning.adapter_files import named_base
from mopref.samplers import UniformSampler
from mopref.serving import parse_name

_WRONG = ("two", "two@", "two@2,3", "two@helpful", "other@0.5", "two@nan,1", "no-such-model")
_CLOSE = 1e-3


def random_adapter(folder: Path, objectives: tuple[str, ...]) -> Path:
    """An adapter on SmolLM2-135M that no training has seen."""
    from mopref.llm.demo.assets import smollm2

    model = PreferenceModel.from_pretrained(smollm2(), SVDLoRAConfig(objectives))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.adapters.values():
            layer.U.copy_(0.02 * torch.randn(layer.U.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


class Client:
    """Asks a server for greedy completions of token ids."""

    def __init__(self, address: str) -> None:
        self.address = address

    def complete(self, model: str, prompt: Sequence[int], tokens: int) -> tuple[int, list[int]]:
        """The status, and the ids of the new tokens."""
        body = {
            "model": model,
            "prompt": list(prompt),
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "logprobs": 0,
            "return_tokens_as_token_ids": True,
        }
        request = urllib.request.Request(
            f"{self.address}/v1/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                content = json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, []
        names = content["choices"][0]["logprobs"]["tokens"]
        return 200, [int(name.removeprefix("token_id:")) for name in names]


@contextmanager
def server(options: argparse.Namespace, cache: Path) -> Iterator[Client]:
    """A running vLLM with the plugin, and one LoRA that it is started with."""
    static = cache / "static"
    model = PreferenceModel.from_pretrained(options.adapter)
    model.export_lora(static, [0.5, 0.5])
    environment = {
        "MOPREF_ADAPTERS": f"two={options.adapter},three={options.adapter_of_three}",
        "MOPREF_CACHE": str(cache),
        "MOPREF_LORAS": str(options.kept),
        "VLLM_PLUGINS": "mopref",
    }
    flags = ["--model", named_base(options.adapter).name, "--lora-modules", f"static={static}"]
    flags += ["--max-lora-rank", "32", "--max-loras", "8", "--max-cpu-loras", "16"]
    flags += ["--max-model-len", "256", "--max-num-seqs", "32"]
    with vllm_server(options.python, flags, environment, cache / "server.log", options.patience) as address:
        yield Client(address)


def first_difference(model: PreferenceModel, prompt: Sequence[int], weights: Sequence[float], new: list[int]) -> str:
    """How the tokens of a row go with the model's own: "equal", "close" or where and by how much they differ."""
    ids = torch.tensor([[*prompt, *new]])
    with torch.no_grad():
        logits = model(ids, preferences=list(weights)).logits[0, len(prompt) - 1 : -1]
    for place, (row, token) in enumerate(zip(logits, new, strict=True)):
        best = row.topk(2)
        if int(best.indices[0]) != token:
            gap = float(best.values[0] - row[token])
            return "close" if gap < _CLOSE else f"token {place} is {gap:.3g} below the best"
    return "equal"


def check_tokens(client: Client, model: PreferenceModel, count: int, tokens: int) -> dict[str, int]:
    """Requests at once, each with a λ of its own."""
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(100, 40000, (5 + row % 7,), generator=generator).tolist() for row in range(count)]
    weights = UniformSampler(len(model.objectives), seed=3).sample(count).tolist()
    names = ["two@" + ",".join(f"{weight:.6f}" for weight in row) for row in weights]
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda pair: client.complete(*pair, tokens), zip(names, prompts, strict=True)))
    outcomes: dict[str, int] = {}
    for name, prompt, (status, new) in zip(names, prompts, answers, strict=True):
        rounded = parse_name(name, {"two": model.objectives}).preference
        outcome = first_difference(model, prompt, rounded, new) if status == 200 else f"status {status}"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def check_cache(client: Client, cache: Path, count: int) -> tuple[int, bool]:
    """Most LoRAs on the disk while so many λ are asked for, and whether the first is served again at last."""
    most, names = 0, []
    for number in range(count):
        first, second = number % 30, number // 30
        names.append(f"three@{first / 100:.2f},{second / 100:.2f},{(100 - first - second) / 100:.2f}")
        status, _ = client.complete(names[-1], [5, 6, 7], 1)
        if status != 200:
            raise RuntimeError(f"{names[-1]}: status {status}.")
        most = max(most, *(len(list(folder.iterdir())) for folder in cache.glob("loras/*/loras")))
    return most, client.complete(names[0], [5, 6, 7], 1)[0] == 200


def throughput(client: Client, tokens: int, repeats: int) -> dict[str, float]:
    """Tokens a second of 8 requests at once with 8 λ, and on one static LoRA, in turns."""
    prompts = [[50 + row, 60, 70, 80] for row in range(8)]
    names = {"8 λ": [f"two@{row / 10:.1f}" for row in range(1, 9)], "one LoRA": ["static"] * 8}
    speeds: dict[str, list[float]] = {kind: [] for kind in names}
    with ThreadPoolExecutor(8) as pool:
        for _ in range(repeats + 1):
            for kind, own in names.items():
                start = time.perf_counter()
                statuses = list(
                    pool.map(lambda pair: client.complete(*pair, tokens)[0], zip(own, prompts, strict=True))
                )
                if set(statuses) != {200}:
                    raise RuntimeError(f"{kind}: status {statuses}.")
                speeds[kind].append(8 * tokens / (time.perf_counter() - start))
    # The first of each loads LoRAs.
    ratios = [several / one for several, one in zip(*(values[1:] for values in speeds.values()), strict=True)]
    return {
        **{kind: statistics.median(values[1:]) for kind, values in speeds.items()},
        "ratio": statistics.median(ratios),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all four; print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="the interpreter of vLLM's environment")
    parser.add_argument("--adapter", type=Path, help="an adapter of two objectives (default: a random one)")
    parser.add_argument("--adapter-of-three", type=Path, help="one of three, on the same base (default: a random one)")
    parser.add_argument("--requests", type=int, default=20, help="at once (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=24, help="new ones (default: %(default)s)")
    parser.add_argument("--preferences", type=int, default=500, help="in sequence (default: %(default)s)")
    parser.add_argument("--kept", type=int, default=50, help="LoRAs on the disk (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of the throughput (default: %(default)s)")
    parser.add_argument("--patience", type=float, default=600, help="seconds for the start (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as made:
        options.adapter = options.adapter or random_adapter(Path(made, "two"), ("helpful", "harmless"))
        options.adapter_of_three = options.adapter_of_three or random_adapter(Path(made, "three"), ("a", "b", "c"))
        return trial(options)


def trial(options: argparse.Namespace) -> int:
    """All four; 0 where they are as they should be."""
    model = PreferenceModel.from_pretrained(options.adapter).eval()
    with tempfile.TemporaryDirectory() as folder, server(options, Path(folder)) as client:
        outcomes = check_tokens(client, model, options.requests, options.tokens)
        print(f"tokens of {options.requests} requests at once: {outcomes}", flush=True)
        wrong = {name: client.complete(name, [5, 6, 7], 1)[0] for name in _WRONG}
        print(f"wrong names: {wrong}", flush=True)
        speeds = throughput(client, options.tokens, options.repeats)
        print("throughput, tokens a second: " + ", ".join(f"{k} {v:.3g}" for k, v in speeds.items()), flush=True)
        most, again = check_cache(client, Path(folder), options.preferences)
        print(f"{options.preferences} λ of three objectives: at most {most} LoRAs kept; the first again: {again}")
    right = outcomes.keys() <= {"equal", "close"} and all(400 <= status < 500 for status in wrong.values())
    return int(not (right and most <= options.kept and again and speeds["ratio"] >= 0.7))


if __name__ == "__main__":
    sys.exit(main())
