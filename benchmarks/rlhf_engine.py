"""RLHF whose rollouts a real vLLM samples, against the same training on rollouts of the model itself.

    python benchmarks/rlhf_engine.py --python VLLM/bin/python

vLLM lives in an environment of its own (``make rlhf-vllm-test`` makes one, of the build for CPUs). The script starts
its server on a free port of the loopback address, with the base model of a problem whose front is known
(``policy_gradients.py``), and ends it again.

* **Distribution**: responses of up to 8 tokens at temperature .7, with stop tokens that come after two tokens at the
  earliest, and a vocabulary with gaps: the mean of |log π − log π_vLLM| of a token, adapters being random.
* **Training**: each seed trains on the server's samples and on the model's own; the ratio of hypervolumes that both
  reach, and of the server's runs the mean difference of a token and the share of truncated weights.

It ends with 1 where the difference is above a thousandth, or the medians of the ratios are further apart than the
ratios of either side among themselves and a hundredth.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from policy_gradients import BETA, config_of, make_bandit, measured
from vllm_server import vllm_server

from mopref import ParetoTrainer
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.engines import VLLM
from mopref.llm.engines.engine import mean_difference, sampled_by
from mopref.llm.policy import Policy, Sampling
from mopref.scalarizers import Linear

# Heads of 32 numbers, which vLLM's attention on CPUs takes.
_HEADS = 2
_SAMPLING = Sampling(8, 2, temperature=0.7, stop_token_ids=(2, 9), vocabulary=(range(0, 11), range(12, 22)))
_MOST_DIFFERENCE, _MOST_APART = 1e-3, 1e-2


def distribution(engine: VLLM) -> tuple[float, float]:
    """The mean difference of a token, and the mean length of responses."""
    bandit, model = make_bandit(0, _HEADS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.adapters.values():
            layer.U.copy_(0.1 * torch.randn(layer.U.shape, generator=generator))
    policy, prompts = Policy(model, _SAMPLING), bandit.prompts.tolist() * 4
    preferences = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]).repeat_interleave(4, dim=0)
    engine.check(policy, [{"prompt_ids": ids} for ids in prompts])
    responses, outputs, told = sampled_by(engine, policy, prompts, preferences, 16, False)
    repeated = [ids for ids in prompts for _ in range(16)]
    mask = collate_sequences(repeated, [response.ids for response in responses]).response_mask
    assert told is not None
    return mean_difference(outputs.log_probabilities, told, mask), mask.sum(dim=1).double().mean().item()


def train(engine: VLLM | None, seed: int, steps: int, samples: int) -> dict[str, float]:
    """Train once; the ratio, seconds, and of an engine what its metrics are in the mean."""
    bandit, model = make_bandit(0, _HEADS)
    options: dict[str, Any] = {"algorithm": "rloo", "beta": BETA, "normalization": None, "engine": engine}
    objective = bandit.objective(samples_per_prompt=samples, **options)
    rows = [{"prompt_ids": prompt} for prompt in bandit.prompts.tolist()]
    config = config_of(steps, seed)
    start = time.perf_counter()
    trainer = ParetoTrainer(model, objective, Linear(), train_data=rows, config=config)
    (entry,) = trainer.train()
    told = {name: value for name, value in entry.items() if name.startswith("engine/")}
    return {**measured(bandit, model, objective, BETA), "seconds": time.perf_counter() - start, **told}


def trial(options: argparse.Namespace, address: str) -> int:
    """Both; 0 where they are as they should be."""
    engine = VLLM(address)
    difference, length = distribution(engine)
    print(f"distribution: |log π − log π_vLLM| {difference:.2g} nats a token, {length:.1f} tokens a response")
    ratios: dict[str, list[float]] = {"model": [], "vLLM": []}
    for seed in range(options.seeds):
        for name, own in (("model", None), ("vLLM", engine)):
            result = train(own, seed, options.steps, options.samples)
            ratios[name].append(result["ratio"])
            print(f"seed {seed}, {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in result.items()), flush=True)
    for name, values in ratios.items():
        print(f"{name}: ratio, least {min(values):.4f}, median {statistics.median(values):.4f}")
    spread = max(max(values) - min(values) for values in ratios.values())
    apart = abs(statistics.median(ratios["model"]) - statistics.median(ratios["vLLM"]))
    return int(not (difference < _MOST_DIFFERENCE and apart <= max(spread, _MOST_APART)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Start a server, run both, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="the interpreter of vLLM's environment")
    parser.add_argument("--seeds", type=int, default=3, help="of the training (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=16, help="responses to a prompt (default: %(default)s)")
    parser.add_argument("--patience", type=float, default=600, help="seconds for the start (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as made:
        base = Path(made, "base")
        _, model = make_bandit(0, _HEADS)
        model.merge([0.5, 0.5]).save_pretrained(base)
        flags = ["--model", str(base), "--skip-tokenizer-init", "--max-lora-rank", "16", "--max-loras", "4"]
        flags += ["--max-cpu-loras", "8", "--max-model-len", "64", "--logprobs-mode", "processed_logprobs"]
        with vllm_server(options.python, flags, {}, Path(made, "server.log"), options.patience) as address:
            return trial(options, address)


if __name__ == "__main__":
    sys.exit(main())
