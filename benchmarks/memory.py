"""Does a long training keep its memory? The resident set over thousands of steps of a toy, DPO and RLHF.

    python benchmarks/memory.py --steps 5000 --output outputs/memory.json

Each kind trains a tiny model in a process of its own, on one thread and without trackers. After a warm-up, the first
fifth of the steps, a line is fitted through the mean resident sets of twenty equal parts of the rest: its slope, in KB
per 1,000 steps, with the standard error of that. Whatever a step leaves behind for good shows as a slope; what the
trainer keeps on purpose, an entry of ``trainer.history`` each ``log_every`` steps and RLHF's records, is beside it;
with ``--drop-histories`` it is thrown away as it comes, so that the slope is of all the rest.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.conditioning import ParetoSetModel
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient.history import RolloutHistory
from mopref.llm.rewards.reward import token_reward
from mopref.objectives import DPO, RLHF, Quadratic
from mopref.scalarizers import Tchebycheff
from mopref.training import TrainerCallback

KINDS = ("toy", "dpo", "rlhf")
_PARTS = 20


class ResidentSet(TrainerCallback):
    """The resident set in KB after every step, in an array that takes its memory before the first."""

    def __init__(self, steps: int, drop_histories: bool = False) -> None:
        self.kilobytes, self.drop_histories = np.full(steps, np.nan), drop_histories
        self._process = psutil.Process()

    def on_log(self, trainer: Any, entry: dict[str, float]) -> None:
        """Throw the histories away, if that was asked for."""
        if self.drop_histories:
            trainer.history.clear()
            if isinstance(trainer.objective, RLHF):
                trainer.objective._history = RolloutHistory(trainer.objective.names)

    def on_step_end(self, trainer: Any) -> None:
        """Look at it."""
        self.kilobytes[trainer.step - 1] = self._process.memory_info().rss / 1024


def make_model(names: tuple[str, str] = ("a", "b")) -> PreferenceModel:
    """A random Llama of two small blocks, with adapters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, int] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=64, num_hidden_layers=2, max_position_embeddings=128, **sizes))
    base.generation_config.pad_token_id = 0
    return PreferenceModel(base, SVDLoRAConfig(names, rank=4))


def pair_rows(count: int, generator: torch.Generator) -> list[dict[str, Any]]:
    """Tokenised pairs with labels of two objectives."""

    def ids(length: int) -> list[int]:
        return torch.randint(2, 64, (length,), generator=generator).tolist()

    return [
        {"prompt_ids": ids(6), "response_0_ids": ids(5), "response_1_ids": ids(7), "labels": [row % 2, 1 - row % 2]}
        for row in range(count)
    ]


@token_reward
def even_share(prompt_ids: Any, response_ids: Any) -> list[float]:
    """The share of even tokens."""
    return [float(np.mean([token % 2 == 0 for token in ids] or [0])) for ids in response_ids]


@token_reward
def shortness(prompt_ids: Any, response_ids: Any) -> list[float]:
    """The fewer tokens, the better."""
    return [-float(len(ids)) for ids in response_ids]


def make_trainer(kind: str, steps: int, log_every: int, callback: TrainerCallback) -> ParetoTrainer:
    """The trainer of a kind."""
    options: dict[str, Any] = {
        "config": TrainerConfig(steps=steps, log_every=log_every, cpu=True, progress=False),
        "callbacks": [callback],
    }
    if kind == "toy":
        problem = Quadratic([[0.0, 0.0], [1.0, 1.0]])
        return ParetoTrainer(ParetoSetModel.for_problem(problem), problem, Tchebycheff(), **options)
    rows = pair_rows(64, torch.Generator().manual_seed(0))
    if kind == "dpo":
        return ParetoTrainer(make_model(), DPO(("a", "b")), Tchebycheff(), train_data=rows, **options)
    prompts = [{"prompt_ids": row["prompt_ids"]} for row in rows]
    objective = RLHF(
        {"even": even_share, "short": shortness},
        samples_per_prompt=2,
        sampling=Sampling(max_new_tokens=8, stop_token_ids=(1,)),
    )
    return ParetoTrainer(make_model(("even", "short")), objective, Tchebycheff(), train_data=prompts, **options)


def fitted_slope(kilobytes: np.ndarray) -> tuple[float, float]:
    """The slope of a line through the means of equal parts, per 1,000 steps, and its standard error.

    Neighbouring steps have nearly the same resident set; the parts' means are nearly independent.
    """
    parts = np.array_split(kilobytes, _PARTS)
    places = np.cumsum([len(part) for part in parts]) / 1000
    means = np.array([part.mean() for part in parts])
    centred = places - places.mean()
    slope = centred @ means / (centred @ centred)
    residuals = means - means.mean() - slope * centred
    error = np.sqrt(residuals @ residuals / (len(parts) - 2) / (centred @ centred))
    return float(slope), float(error)


def kept_bytes(trainer: ParetoTrainer) -> int:
    """What is kept on purpose: the entries of ``trainer.history``, and the columns of the rollouts' history."""
    entries = sum(
        sys.getsizeof(entry) + sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in entry.items())
        for entry in trainer.history
    )
    state = trainer.objective.state_dict() if isinstance(trainer.objective, RLHF) else {"history": {}}
    return entries + sum(8 * len(column) for column in state["history"].values())


def measure(kind: str, steps: int, log_every: int, drop_histories: bool = False) -> dict[str, Any]:
    """Train, and say how the resident set went."""
    torch.set_num_threads(1)
    resident = ResidentSet(steps, drop_histories)
    trainer = make_trainer(kind, steps, log_every, resident)
    trainer.train()
    measured = resident.kilobytes[steps // 5 :]
    slope, error = fitted_slope(measured)
    return {
        "kind": kind,
        "steps": steps,
        "resident_mb": round(measured.mean() / 1024, 1),
        "slope_kb_per_1000_steps": round(slope, 2),
        "standard_error": round(error, 2),
        "first_kb": float(measured[0]),
        "last_kb": float(measured[-1]),
        "history_entries": len(trainer.history),
        "kept_kb_per_1000_steps": round(kept_bytes(trainer) / 1.024 / steps, 2),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every kind in a process of its own, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what is trained")
    parser.add_argument("--steps", type=int, default=5000, help="steps of each training")
    parser.add_argument("--log-every", type=int, default=10, help="steps between entries of the history")
    parser.add_argument("--drop-histories", action="store_true", help="throw away what is kept on purpose")
    parser.add_argument("--output", type=Path, help="a JSON file for the results")
    parser.add_argument("--here", action="store_true", help="measure in this process, and print JSON only")
    given = parser.parse_args(arguments)
    if given.here:
        print(json.dumps([measure(kind, given.steps, given.log_every, given.drop_histories) for kind in given.kinds]))
        return
    results = []
    print(f"{'kind':<6}{'resident':>10}{'slope, KB / 1,000 steps':>26}{'of it histories':>18}")
    for kind in given.kinds:
        command = [sys.executable, __file__, "--here", "--kinds", kind, "--steps", str(given.steps)]
        command += ["--log-every", str(given.log_every)]
        command += ["--drop-histories"] * given.drop_histories
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        (result,) = json.loads(run.stdout.splitlines()[-1])
        slope = f"{result['slope_kb_per_1000_steps']:.1f} ± {result['standard_error']:.1f}"
        kept = result["kept_kb_per_1000_steps"]
        print(f"{kind:<6}{result['resident_mb']:>7.0f} MB{slope:>26}{kept:>18.1f}", flush=True)
        results.append(result)
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
