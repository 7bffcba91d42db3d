"""Cases of one target in a forked process: a crash ends the worker only, and says which case it was."""

import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed as seeded, settings

from benchmarks.bad_input.outcomes import BAD, Verdict, judge
from benchmarks.bad_input.target import Target, cases

__all__ = ["Tally", "run_target"]

# Above what a process has once everything is imported.
_MORE_MEMORY = 6 << 30
# A case that Python's alarm cannot end, since a library's own loop does not listen, is ended from outside after this.
_SECONDS_OF_SILENCE = 60.0
_MOST_SHOWN = 600


@dataclass
class Tally:
    """Counts by outcome, and an example for each place of each bad one."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, outcome: str, target: str, detail: str, place: str, case: str) -> None:
        """Count a case."""
        self.counts[outcome] += 1
        if outcome in BAD or outcome == "machine's limit":
            key = f"{outcome} {target} {detail.split(':')[0] if outcome == 'foreign' else ''} {place}"
            example = self.examples.setdefault(
                key, {"outcome": outcome, "target": target, "detail": detail, "place": place, "case": case, "times": 0}
            )
            example["times"] += 1


def run_target(target: Target, number: int, seed: int, limit: float = 10.0) -> Tally:
    """So many cases of a target; after a crash a new worker does the rest with another seed."""
    tally, remaining, tries = Tally(), number, 0
    while remaining > 0 and tries < 50:
        done = _in_a_worker(target, remaining, seed * 1000 + tries, limit, tally)
        remaining -= done
        tries += 1
        if done == 0:
            break
    return tally


def _in_a_worker(target: Target, number: int, seed: int, limit: float, tally: Tally) -> int:
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(reader)
            _work(target, number, seed, limit, writer)
            code = 0
        except BaseException:
            _send(writer, {"broken": traceback.format_exc()})
        finally:
            os._exit(code)
    os.close(writer)
    last, count = "", 0
    is_silent = False
    for message in _messages(reader):
        if message is None:
            os.kill(process, signal.SIGKILL)
            is_silent = True
            break
        if "broken" in message:
            tally.add("crash", target.name, f"the harness itself: {message['broken'][-600:]}", "", last)
            break
        if "case" in message:
            last = message["case"]
        else:
            count += 1
            tally.add(message["outcome"], target.name, message["detail"], message["place"], last)
    os.close(reader)
    _, status = os.waitpid(process, 0)
    if is_silent:
        tally.add("hang", target.name, f"silent for {_SECONDS_OF_SILENCE:g} s", "", last)
        return count + 1
    if os.WIFSIGNALED(status):
        tally.add("crash", target.name, signal.Signals(os.WTERMSIG(status)).name, "", last)
        return count + 1
    # Where there are no more different cases, hypothesis ends early.
    return count if count < number and count > number // 20 and os.WEXITSTATUS(status) else max(count, number)


def _messages(reader: int) -> Iterator[dict[str, Any] | None]:
    """What a worker tells, one JSON a line; ``None`` where it has been silent for too long."""
    rest = b""
    while True:
        ready, _, _ = select.select([reader], [], [], _SECONDS_OF_SILENCE)
        if not ready:
            yield None
            return
        block = os.read(reader, 1 << 16)
        if not block:
            return
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _send(writer: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(writer, data) :]


def _work(target: Target, number: int, seed: int, limit: float, writer: int) -> None:
    """In the worker: draw and judge."""
    # What it would say of a crash is said by the signal that ended the worker.
    faulthandler.disable()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    warnings.simplefilter("ignore")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + _MORE_MEMORY,) * 2)
    scratch = Path(tempfile.mkdtemp(prefix="bad-input-"))
    # One level down, so that "../x" stays in it, too.
    folder = scratch / "case"
    folder.mkdir()
    os.chdir(folder)

    @seeded(seed)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(target))
    def one(arguments: dict[str, Any]) -> None:
        _send(writer, {"case": _shown(arguments)})
        verdict = judged(target, arguments, folder, limit)
        _send(writer, {"outcome": verdict.outcome, "detail": verdict.detail, "place": verdict.place})

    try:
        one()
    finally:
        os.chdir("/")
        shutil.rmtree(scratch, ignore_errors=True)


def judged(target: Target, arguments: dict[str, Any], folder: Path, limit: float) -> Verdict:
    """The verdict on one case, with what it left in its scratch folder."""
    if target.stage is not None:
        target.stage(folder)
    before = contents(folder)

    def call() -> None:
        result = target.call(**arguments)
        if target.check is not None:
            target.check(result, arguments)

    verdict = judge(call, limit)
    if verdict.outcome == "hang" and _asks_for_much(arguments):
        verdict = Verdict("machine's limit", verdict.detail, verdict.place)
    after = contents(folder)
    if after or before:
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if changed and verdict.outcome != "taken" and target.writes:
            verdict = Verdict("half-written", f"{verdict.detail}, and left {', '.join(changed[:5])}", verdict.place)
        _empty(folder)
    return verdict


def _asks_for_much(arguments: dict[str, Any]) -> bool:
    """Whether millions of points are asked for, which take their time and which memory holds, or of generations."""
    if type(generations := arguments.get("generations")) is int and generations > 10**4:
        return True
    counts = [arguments.get(name) for name in ("num_points", "num_cells", "n")]
    return any(type(count) is int and 10**5 < count < 2**32 for count in counts)


def contents(folder: Path) -> dict[str, str]:
    """Every file under a folder with a digest, every folder with none."""
    return {
        path.relative_to(folder).as_posix(): blake2b(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _shown(arguments: dict[str, Any]) -> str:
    parts = []
    for name, value in arguments.items():
        try:
            text = repr(value)
        except BaseException as error:
            text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
        parts.append(f"{name}={text[:200]}")
    return ", ".join(parts).encode("utf-8", "backslashreplace").decode()[:_MOST_SHOWN].replace("\n", " ")


Check = Callable[[Any, dict[str, Any]], None]
