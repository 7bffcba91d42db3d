"""Does a DPO step cost more with more objectives? One training step with m = 1 and with m = 10 on the same pairs.

    python benchmarks/step_time.py

Steps of both are taken in turn, so that a machine whose speed drifts slows both alike. Three comparisons: adapters of
the same total rank k + p·m (what the objectives themselves cost), and adapters of the same k and p, whose rank grows
with m (p = 1 as in the paper, p = 4 by default). The model is random, of the size of SmolLM2-135M with fewer blocks:
nothing is downloaded.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerCallback, TrainerConfig
from mopref.objectives import DPO
from mopref.scalarizers import Tchebycheff

OBJECTIVES = 10


def make_rows(count: int, num_objectives: int, vocabulary: int) -> list[dict[str, Any]]:
    """Random pairs of 40 prompt and 40 response tokens; the same pairs whatever the number of objectives."""
    generator = torch.Generator().manual_seed(0)

    def ids() -> list[int]:
        return torch.randint(1, vocabulary, (40,), generator=generator).tolist()

    rows: list[dict[str, Any]] = [
        {"prompt_ids": ids(), "response_0_ids": ids(), "response_1_ids": ids()} for _ in range(count)
    ]
    for index, row in enumerate(rows):
        row["labels"] = [(index + objective) % 2 for objective in range(num_objectives)]
    return rows


class StopAfterEachStep(TrainerCallback):
    """Hands control back after every step, so that two trainings can take turns."""

    def on_step_end(self, trainer: ParetoTrainer) -> None:
        """Stop; the next ``train()`` goes on from here."""
        trainer.should_stop = True


def make_trainer(num_objectives: int, rank: int, preference_rank: int, steps: int) -> ParetoTrainer:
    """A trainer for ``num_objectives`` on the common pairs."""
    names = tuple(f"objective_{i}" for i in range(num_objectives))
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    adapters = SVDLoRAConfig(names, rank=rank, preference_rank=preference_rank)
    model = PreferenceModel(LlamaForCausalLM(config), adapters)
    objective = DPO(names)
    rows = objective.precompute(model, make_rows(8, num_objectives, config.vocab_size))
    settings = TrainerConfig(steps=steps, batch_size=8, preferences_per_step=4, cpu=True, progress=False)
    ideal = [0.0] * num_objectives
    return ParetoTrainer(
        model, objective, Tchebycheff(ideal), train_data=rows, config=settings, callbacks=[StopAfterEachStep()]
    )


def compare(rank_of_one: int, rank_of_many: int, preference_rank: int, steps: int) -> dict[str, float]:
    """Median seconds a step with one and with ten objectives, and the median of the ratios of neighbouring steps."""
    one = make_trainer(1, rank_of_one, preference_rank, steps + 1)
    many = make_trainer(OBJECTIVES, rank_of_many, preference_rank, steps + 1)
    seconds: dict[str, list[float]] = {"one": [], "many": []}
    for _ in range(steps + 1):
        for name, trainer in (("one", one), ("many", many)):
            start = time.perf_counter()
            trainer.train()
            seconds[name].append(time.perf_counter() - start)
    # The first step warms up.
    pairs = list(zip(seconds["one"][1:], seconds["many"][1:], strict=True))
    return {
        "seconds_m1": statistics.median(first for first, _ in pairs),
        "seconds_m10": statistics.median(second for _, second in pairs),
        "ratio": statistics.median(second / first for first, second in pairs),
    }


def main() -> None:
    """Run both comparisons; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=9, help="timed steps of each (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/step_time.json"), help="(default: %(default)s)")
    options = parser.parse_args()
    results = {
        "same total rank, 18": compare(17, 8, 1, options.steps),
        "same k = 8 and p = 1, total rank 9 and 18": compare(8, 8, 1, options.steps),
        "same k = 8 and p = 4, total rank 12 and 48": compare(8, 8, 4, options.steps),
    }
    print(f"{'adapters':<44} {'m = 1':>9} {'m = 10':>9} {'ratio':>7}")
    for name, row in results.items():
        print(f"{name:<44} {row['seconds_m1']:>8.3f}s {row['seconds_m10']:>8.3f}s {row['ratio']:>7.3f}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
