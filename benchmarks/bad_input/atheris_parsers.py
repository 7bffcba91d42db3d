"""Coverage-guided mutation of the files that the library reads, by atheris, which is no dependency of ours.

    python -m benchmarks.bad_input.atheris_parsers front.json --runs 5000 --seed 0 --output counts.json

One format a process, since the fuzzer ends the process that it runs in. Only ``mopref`` is instrumented: PyTorch would
take minutes. ``python -m benchmarks.bad_input --atheris 5000`` runs this for every format, where atheris is installed
(``pip install atheris``, for Python 3.11 and 3.12 on Linux).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.bad_input.worker import Tally, judged

__all__ = ["is_installed", "main", "run_format"]


def is_installed() -> bool:
    """Whether atheris can be imported."""
    return find_spec("atheris") is not None


def run_format(name: str, runs: int, seed: int, seconds: float = 600.0) -> Tally:
    """So many mutations of one format, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "counts.json"
        words = [sys.executable, "-m", f"{__package__}.atheris_parsers", name, "--runs", str(runs), "--seed", str(seed)]
        try:
            ended = subprocess.run([*words, "--output", output], capture_output=True, text=True, timeout=seconds)
            code, said = ended.returncode, ended.stderr[-600:]
        except subprocess.TimeoutExpired:
            code, said = 0, ""
        tally = Tally()
        if output.exists():
            content = json.loads(output.read_text())
            tally.counts.update(content["counts"])
            tally.examples.update(content["examples"])
        if code != 0 or not output.exists():
            tally.add("crash", f"atheris: {name}", f"exit code {code}", said, "")
        return tally


def main(words: list[str] | None = None) -> None:
    """Fuzz one format; does not return."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("format")
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(words)
    import atheris

    from benchmarks.bad_input.run import prepare

    with atheris.instrument_imports(include=["mopref"], enable_loader_override=False):
        from benchmarks.bad_input.target import Target
        from benchmarks.bad_input.targets.files import FORMATS, read_spoilt
    prepare()
    form = next(form for form in FORMATS if form.name == options.format)
    right, names = form.files(), sorted(form.files())
    target = Target(f"atheris: {form.name}", "", read_spoilt, dict)
    output, scratch = options.output.resolve(), Path(tempfile.mkdtemp(prefix="bad-input-"))
    tally = Tally()

    def one(data: bytes) -> None:
        # The first byte says which of a folder's files the rest is.
        name = names[data[0] % len(names)] if data else names[0]
        files = {**right, name: data[1:]}
        verdict = judged(target, {"form": form, "files": files}, scratch, 10.0)
        tally.add(verdict.outcome, target.name, verdict.detail, verdict.place, repr(data[:300]))
        if tally.counts.total() % 100 == 0 or tally.counts.total() >= options.runs:
            output.write_text(json.dumps(_content(tally)))

    corpus = Path(tempfile.mkdtemp(prefix="bad-input-corpus-"))
    for place, name in enumerate(names):
        (corpus / str(place)).write_bytes(bytes([place]) + right[name])
    os.chdir(scratch)
    # Our own alarm ends a case that takes too long.
    flags = [f"-runs={options.runs}", f"-seed={options.seed + 1}", "-handle_alrm=0", "-timeout=0", "-max_len=20000"]
    atheris.Setup(["atheris", *flags, "-verbosity=0", str(corpus)], one)
    atheris.Fuzz()


def _content(tally: Tally) -> dict[str, Any]:
    return {"counts": dict(tally.counts), "examples": tally.examples}


if __name__ == "__main__":
    main()
