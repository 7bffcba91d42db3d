"""What does the server cost beside ``generate``, is every stream that of its λ alone, and is anybody lost in a crowd?

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.serving --output outputs/serving.json

**speed**: the same prompts, each under its own λ, are continued greedily in turn by ``model.generate`` in one batch, by
the server's worker, and over HTTP on loopback as streams, whose reader is another process. Tokens a second of the clock
and of this process's processor time; on a machine that others use, too, the ratio of the latter moves less.

**streams**: so many streams at once, each compared with the text that ``generate`` gives its prompt and λ alone.

**crowd**: so many requests at once at a server with few places; every one must get an answer or a 503 with Retry-After.

The model is random, of a shape of ``benchmarks/generation_speed.py``, and nothing is downloaded.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.generation_speed import OBJECTIVES, SHAPES, make_model
from mopref import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.policy import Sampling, sample_responses
from mopref.samplers import UniformSampler
from mopref.serving.decoding import DecodingRequest
from mopref.serving.launch import Server, ServerSettings, serve_model
from mopref.serving.listening import bound_socket, http_server
from mopref.serving.opening import Opened
from mopref.serving.waiting_room import Failure, Ticket
from mopref.serving.worker import Worker


def make_tokenizer(vocabulary: int) -> Any:
    """A tokenizer of words w0, w1, …, and a chat template without any marks."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate(["<pad>", "<s>", "</s>"])}
    words |= {f"w{index}": index for index in range(3, vocabulary)}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    made.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    return made


def make_forms(count: int, vocabulary: int, prompt_tokens: int, new_tokens: int, mixed: bool) -> list[dict[str, Any]]:
    """Requests, each with a prompt and a λ of its own; of other lengths where they are mixed."""
    source = random.Random(0)
    preferences = UniformSampler(len(OBJECTIVES), seed=0).sample(count).tolist()
    forms = []
    for preference in preferences:
        length = source.randrange(2, 2 * prompt_tokens) if mixed else prompt_tokens
        content = " ".join(f"w{source.randrange(3, vocabulary)}" for _ in range(length))
        total = sum(preference)
        forms.append(
            {
                "messages": [{"role": "user", "content": content}],
                "preference": [weight / total for weight in preference],
                "temperature": 0,
                "max_tokens": source.randrange(1, 2 * new_tokens) if mixed else new_tokens,
                "stream": True,
            }
        )
    return forms


def generated(model: PreferenceModel, requests: Sequence[DecodingRequest]) -> list[list[int]]:
    """The tokens that ``generate`` gives in one batch."""
    sampling = Sampling(max_new_tokens=requests[0].max_new_tokens, stop_token_ids=())
    preferences = torch.tensor([request.preference for request in requests], dtype=torch.float64)
    responses = sample_responses(
        model, [list(request.prompt_ids) for request in requests], preferences, sampling, greedy=True
    )
    return [response.ids for response in responses]


def worked(worker: Worker, requests: Sequence[DecodingRequest]) -> list[list[int]]:
    """The tokens that the worker gives, of requests that wait together."""
    tokens: list[list[int]] = [[] for _ in requests]
    ended = threading.Semaphore(0)

    def deliver_to(row: int) -> Callable[[Any], None]:
        def deliver(event: Any) -> None:
            if isinstance(event, Failure):
                raise RuntimeError(event.sentence)
            tokens[row].append(event.id)
            if event.end is not None:
                ended.release()

        return deliver

    for row, request in enumerate(requests):
        worker.submit(Ticket(request, deliver_to(row), time.monotonic() + 3600))
    for _ in requests:
        ended.acquire()
    return tokens


class Reader:
    """Another process, which sends requests and reads the answers."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.serving", "--reader", url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self, forms: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The status, headers and text of each answer; all are asked at once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(list(forms)) + "\n")
        self._process.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return answers

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def read_for_another(url: str) -> None:
    """What the reader's process does: a list of forms a line comes in, a list of answers a line goes out."""
    import httpx

    _allow_many_files()

    async def ask(client: Any, form: dict[str, Any]) -> dict[str, Any]:
        answer = await client.post(url, json=form)
        return {"status": answer.status_code, "retry": answer.headers.get("retry-after"), "text": answer.text}

    async def ask_all(forms: list[dict[str, Any]]) -> list[dict[str, Any]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=3600, limits=limits, trust_env=False) as client:
            return await asyncio.gather(*(ask(client, form) for form in forms))

    for line in sys.stdin:
        print(json.dumps(asyncio.run(ask_all(json.loads(line)))), flush=True)


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def served(server: Server) -> Iterator[Reader]:
    """A server on loopback, and a reader of it."""
    _allow_many_files()
    with bound_socket("127.0.0.1", 0) as bound:
        http = http_server(server.app)
        thread = threading.Thread(target=http.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not http.started:
            time.sleep(0.01)
        reader = Reader(f"http://127.0.0.1:{bound.getsockname()[1]}/v1/chat/completions")
        try:
            # The reader's process has to be there before anything is timed.
            reader.read([])
            yield reader
        finally:
            reader.close()
            http.should_exit = True
            thread.join(60)


def streamed_text(text: str) -> tuple[str, int]:
    """The text of a stream, and its pieces."""
    lines = [line[6:] for line in text.split("\n\n") if line]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    pieces = [event["choices"][0]["delta"].get("content", "") for event in events]
    return "".join(pieces), sum(bool(piece) for piece in pieces)


def timed(call: Callable[[], int]) -> tuple[float, float]:
    """Tokens a second of a call that says how many it made, and tokens a second of processor time."""
    start, start_processor = time.perf_counter(), time.process_time()
    tokens = call()
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - start_processor
    return tokens / seconds, tokens / processor_seconds


def compare_speed(opened: Opened, size: int, options: argparse.Namespace) -> dict[str, float]:
    """Medians over turns of ``generate``, the worker and HTTP, and the ratios of neighbouring runs."""
    vocabulary = opened.model.config.vocab_size
    forms = make_forms(size, vocabulary, options.prompt_tokens, options.new_tokens, mixed=False)
    server = serve_model(opened, ServerSettings(rows=size, waiting=2 * size))
    requests = [
        DecodingRequest(
            tuple(opened.tokenizer(form["messages"][0]["content"], add_special_tokens=False)["input_ids"]),
            tuple(form["preference"]),
            options.new_tokens,
        )
        for form in forms
    ]
    with served(server) as reader:

        def over_http() -> int:
            return sum(streamed_text(answer["text"])[1] for answer in reader.read(forms))

        calls: dict[str, Callable[[], int]] = {
            "generate": lambda: sum(map(len, generated(opened.model, requests))),
            "worker": lambda: sum(map(len, worked(server.worker, requests))),
            "http": over_http,
        }
        # The first turn warms up.
        turns = [{name: timed(call) for name, call in calls.items()} for _ in range(options.repeats + 1)][1:]
    result = {name: statistics.median(turn[name][0] for turn in turns) for name in calls}
    for name in ("worker", "http"):
        ratios = [turn[name][1] / turn["generate"][1] for turn in turns]
        result |= {f"{name}_ratio": statistics.median(turn[name][0] / turn["generate"][0] for turn in turns)}
        result |= {f"{name}_processor_ratio": statistics.median(ratios)}
        result |= {f"{name}_processor_ratio_min": min(ratios), f"{name}_processor_ratio_max": max(ratios)}
    return result


def compare_streams(opened: Opened, count: int, options: argparse.Namespace) -> dict[str, int]:
    """How many of so many streams at once are not the text of their prompt and λ alone, nor of another λ."""
    forms = make_forms(count, opened.model.config.vocab_size, options.prompt_tokens, options.new_tokens, mixed=True)
    with served(serve_model(opened, ServerSettings(rows=count // 2, waiting=count))) as reader:
        answers = reader.read(forms)
    others = other_preference = 0
    with evaluation_mode(opened.model):
        for form, answer in zip(forms, answers, strict=True):
            ids = opened.tokenizer(form["messages"][0]["content"], add_special_tokens=False)["input_ids"]
            found = streamed_text(answer["text"])[0]
            texts = []
            for preference in (form["preference"], form["preference"][::-1]):
                request = DecodingRequest(tuple(ids), tuple(preference), form["max_tokens"])
                (alone,) = generated(opened.model, [request])
                kept = alone[: alone.index(2)] if 2 in alone else alone
                texts.append(opened.tokenizer.decode(kept, skip_special_tokens=True).strip())
            others += found != texts[0]
            other_preference += found != texts[1]
    return {"count": count, "others": others, "differ_at_another_preference": other_preference}


def ask_a_crowd(opened: Opened, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """What so many requests at once get from a server with 16 rows and 64 places to wait."""
    forms = make_forms(count, opened.model.config.vocab_size, options.prompt_tokens, 8, mixed=False)
    with served(serve_model(opened, ServerSettings(rows=16, waiting=64, seconds=3600))) as reader:
        start = time.perf_counter()
        answers = reader.read(forms)
        seconds = time.perf_counter() - start
        # Who was told to come later is answered later.
        later = reader.read(forms[:16])
    statuses = [answer["status"] for answer in answers]
    return {
        "asked": count,
        "answered": statuses.count(200),
        "busy": sum(answer["status"] == 503 and answer["retry"] is not None for answer in answers),
        "other": sum(status not in (200, 503) for status in statuses),
        "answered_later": sum(answer["status"] == 200 for answer in later),
        "seconds": seconds,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), default="small", help="(default: %(default)s)")
    parser.add_argument("--blocks", type=int, help="of the model (default: those of its shape)")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[1, 8, 32, 64], help="(default: 1 8 32 64)")
    parser.add_argument("--streams", type=int, default=64, help="0 for none (default: %(default)s)")
    parser.add_argument("--crowd", type=int, default=1000, help="0 for none (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--new-tokens", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.reader:
        read_for_another(options.reader)
        return
    torch.set_num_threads(options.threads)
    model = make_model(options.model, options.blocks, options.device)
    # Large enough that λ decides about tokens.
    for layer in model.adapters.values():
        torch.nn.init.normal_(layer.U, std=0.2)
    opened = Opened(model, make_tokenizer(model.config.vocab_size))
    results: dict[str, Any] = {"speed": []}
    print("Tokens a second of the clock; ratios to generate by the clock and in processor time.")
    print(
        f"{'batch':>5} {'generate':>9} {'worker':>8} {'ratio':>6} {'processor':>9} {'http':>8} {'ratio':>6} processor"
    )
    for size in options.batch_sizes:
        row = compare_speed(opened, size, options)
        results["speed"].append({"batch_size": size, **row})
        print(
            f"{size:>5} {row['generate']:>9.1f} {row['worker']:>8.1f} {row['worker_ratio']:>6.3f} "
            f"{row['worker_processor_ratio']:>9.3f} {row['http']:>8.1f} {row['http_ratio']:>6.3f} "
            f"{row['http_processor_ratio']:>9.3f}",
            flush=True,
        )
    if options.streams:
        results["streams"] = compare_streams(opened, options.streams, options)
        print(f"streams: {results['streams']}", flush=True)
    if options.crowd:
        results["crowd"] = ask_a_crowd(opened, options.crowd, options)
        print(f"crowd: {results['crowd']}", flush=True)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        settings = {name: value for name, value in vars(options).items() if name not in ("output", "reader")}
        options.output.write_text(json.dumps({"settings": settings, **results}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
