"""Does the same seed give the same run? Tiny trainings in processes of their own, compared bit for bit.

    python benchmarks/determinism.py

Weights, optimiser, ideal point, sampler, generators, history and log of each are compared with the first one's: the
same again, under another seed of Python's hashes, with another number of threads, and on two processes. Where the
arithmetic adds up in another order (threads, processes) equality is not promised; what comes out is printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KINDS = ("toy", "dpo", "rlhf", "wide")
# Of two processes only these are compared: each has its own generators and rows, and no checkpoints.
_SHARED = ("step", "weights", "ideal point")

_RUN = """
import json, os, sys
from pathlib import Path
import torch
import killable_runs
from killable_runs import TRAINERS, digests

kind, threads, seed, processes = sys.argv[1], *map(int, sys.argv[3:])
folder = Path(f"{sys.argv[2]}-{os.environ.get('RANK', 0)}")
torch.set_num_threads(threads)
if kind == "wide":
    from transformers import LlamaConfig
    tiny = killable_runs.LlamaConfig
    killable_runs.LlamaConfig = lambda **options: tiny(**{**options, "hidden_size": 512, "intermediate_size": 512})
settings = {"seed": seed}
if processes > 1:
    settings |= {"checkpoint_every": None, "keep_checkpoints": None}
trainer = TRAINERS["dpo" if kind == "wide" else kind](folder, lambda *_, **__: None, **settings)
trainer.train()
Path(f"{folder}.json").write_text(json.dumps(digests(trainer, folder)))
"""


def run(kind: str, threads: int = 1, hashes: int = 0, seed: int = 5, processes: int = 1) -> list[dict[str, str]]:
    """The digests of a run, of each process."""
    with tempfile.TemporaryDirectory() as parent:
        script, folder = Path(parent, "run.py"), Path(parent, "run")
        script.write_text(_RUN, encoding="utf-8")
        environment = {
            **os.environ,
            "PYTHONHASHSEED": str(hashes),
            "OMP_NUM_THREADS": str(threads),
            "ACCELERATE_USE_CPU": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        }
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), str(script)]
        arguments = [kind, str(folder), str(threads), str(seed), str(processes)]
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{kind} failed: {done.stderr[-2000:]}")
        return [json.loads(Path(f"{folder}-{rank}.json").read_text()) for rank in range(processes)]


def differing(first: dict[str, str], other: dict[str, str], names: Any = None) -> list[str]:
    """What differs between two runs."""
    return [name for name in names or first if first[name] != other[name]]


def main() -> int:
    """Run the command; 1 where what is promised does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    failed = False
    for kind in parser.parse_args().kinds:
        first = run(kind)[0]
        promised = {
            "again": differing(first, run(kind)[0]),
            "another seed of hashes": differing(first, run(kind, hashes=7)[0]),
            "two threads, twice": differing(run(kind, threads=2)[0], run(kind, threads=2)[0]),
        }
        pair, again = run(kind, processes=2), run(kind, processes=2)
        promised["two processes, each other"] = differing(pair[0], pair[1], _SHARED)
        promised["two processes, twice"] = [name for a, b in zip(pair, again, strict=True) for name in differing(a, b)]
        for what, names in promised.items():
            failed |= bool(names)
            print(f"{kind}: {what}: {'the same' if not names else 'OTHER ' + ', '.join(names)}", flush=True)
        others = {
            "two threads against one": differing(first, run(kind, threads=2)[0]),
            "another seed": differing(first, run(kind, seed=6)[0]),
        }
        failed |= not others["another seed"]
        for what, names in others.items():
            print(f"{kind}: {what}: {'the same' if not names else 'other ' + ', '.join(names[:3])}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
