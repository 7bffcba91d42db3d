"""A training in a process of its own that does one step when it is told to, and says how long and how much it took.

Peak memory is the kernel's own high-water mark of the resident set (``VmHWM``, put back to the present through
``/proc/self/clear_refs``), less the resident set when the training begins: model, adapters and trainer are made by
then, the references are computed, and what is free was given back to the system.
"""

import ctypes
import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

_QUIET = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Worker:
    """A variant's training, or the necessary products ("floor"), in another process.

    The process starts at once; :meth:`close` ends it.

    Args:
        variant: see ``step_parts.make_trainer``; or "floor".
        setting: what is trained.
        threads: of torch.
        more_environment: variables of the process, beside those of this one.
    """

    def __init__(
        self, variant: str, setting: Any, threads: int = 1, more_environment: Mapping[str, str] | None = None
    ) -> None:
        self.variant = variant
        self._errors = tempfile.TemporaryFile("w+")
        # What libraries leave in it goes with the process.
        self._folder = tempfile.TemporaryDirectory(prefix="step_")
        task = json.dumps({"variant": variant, "setting": dataclasses.asdict(setting)})
        environment = {**os.environ, **_QUIET, "TMPDIR": self._folder.name}
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment |= more_environment or {}
        self._process = subprocess.Popen(
            [sys.executable, __file__, task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )

    def begin(self) -> dict[str, float]:
        """Wait until its training is about to begin: the ``resident`` set, in bytes."""
        return self._answer()

    def step(self) -> dict[str, float]:
        """One step: ``seconds``, ``processor`` seconds, ``loss``, and ``peak`` so far, in bytes above ``resident``."""
        assert self._process.stdin is not None
        # Where it has ended, the answer says why.
        with suppress(BrokenPipeError):
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"{self.variant} ended with {self._process.returncode}:\n{self._errors.read()[-3000:]}")
        return cast(dict[str, float], json.loads(line))

    def close(self) -> None:
        """End the process; it has nothing to save."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
        self._folder.cleanup()


def take_turns(workers: Sequence[Worker], turns: int) -> list[list[dict[str, float]]]:
    """What every step of every worker gave; each does one step in each turn, and all are ended."""
    with ExitStack() as stack:
        for worker in workers:
            stack.callback(worker.close)
        for worker in workers:
            worker.begin()
        steps: list[list[dict[str, float]]] = [[] for _ in workers]
        for _ in range(turns):
            for worker, own in zip(workers, steps, strict=True):
                own.append(worker.step())
    return steps


def memory_line(name: str) -> int:
    """A line of ``/proc/self/status``, such as "VmRSS" or "VmHWM", in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


class _Turns:
    """Waits for the other process's word before each step, and tells it of the step afterwards."""

    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self._started = (0.0, 0.0)
        self._resident = 0

    def __call__(self, loss: float | None, spent: tuple[float, float] | None = None) -> None:
        """Called when a training begins and after each step; ``spent`` counts instead of the time since then."""
        if spent is None:
            spent = (time.perf_counter() - self._started[0], time.process_time() - self._started[1])
        if loss is None:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
            self._resident = memory_line("VmRSS")
            self._say(resident=self._resident)
        else:
            self._say(seconds=spent[0], processor=spent[1], loss=loss, peak=memory_line("VmHWM") - self._resident)
        if not sys.stdin.readline():
            os._exit(0)
        self._started = (time.perf_counter(), time.process_time())

    def _say(self, **numbers: float) -> None:
        self._answers.write(json.dumps(numbers) + "\n")
        self._answers.flush()


def serve(task: dict[str, Any]) -> None:
    """Train, one step for each line that comes in."""
    import torch
    from step_floor import run_floor
    from step_parts import Setting, make_trainer

    # What libraries print is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    setting, turns = Setting(**task["setting"]), _Turns(answers)
    if task["variant"] == "floor":
        run_floor(setting, turns)
    else:
        make_trainer(task["variant"], setting, turns).train()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
