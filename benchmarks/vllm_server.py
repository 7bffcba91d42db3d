"""A vLLM server of an environment of its own, on a free port of the loopback address, for as long as a block runs."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["answers", "vllm_server"]


def answers(address: str) -> bool:
    """Whether a server is up."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def vllm_server(
    python: str, flags: Sequence[str], environment: Mapping[str, str], log: Path, patience: float
) -> Iterator[str]:
    """The address of a running vLLM; its output goes to a file, whose end is shown where it does not start.

    Args:
        python: the interpreter of vLLM's environment.
        flags: of the server, beside those of the CPU and of the loopback address.
        environment: variables beside those that are set.
        log: where its output goes.
        patience: seconds that it may take to start.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    own = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    command = [python, "-m", "vllm.entrypoints.openai.api_server", *flags, "--enable-lora"]
    command += ["--enforce-eager", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **own, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            address, start = f"http://127.0.0.1:{port}", time.monotonic()
            while not answers(address):
                if process.poll() is not None or time.monotonic() - start > patience:
                    raise RuntimeError(f"vLLM did not start:\n{log.read_text(errors='replace')[-4000:]}")
                time.sleep(1)
            print(f"vLLM started in {time.monotonic() - start:.0f} s", flush=True)
            yield address
        finally:
            # Its own session: the server and its engine, and nothing else.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
