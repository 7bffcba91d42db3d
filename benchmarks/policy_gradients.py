"""How much of a front that is known exactly do policy gradients on sampled responses recover?

    python benchmarks/policy_gradients.py

A tiny random Llama answers three prompts with one token of 24, two random rewards look at it, and the policy for λ that
is best for Σ λ_i E r_i − β KL is known: π_λ ∝ π_ref · exp(Σ λ_i r_i / β). Training sees sampled responses only; what it
reached is then summed over all tokens. The ratio is the hypervolume of −J_i at 11 preferences over that of the closed
form, in units of the rewards as they are normalised: as they are, or divided by their running deviations, with β scaled
so that both problems are equally hard. Division within each group ("group") has no closed form: it is measured in the
rewards' own units, and its KL shows how far it goes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from mopref import ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig, simplex_lattice
from mopref.indicators import hypervolume
from mopref.llm.policy.generation import Sampling
from mopref.llm.policy_gradient import ALGORITHMS
from mopref.llm.rewards import token_reward
from mopref.objectives import RLHF
from mopref.scalarizers import Linear

VOCABULARY, PROMPTS, NAMES = 24, 3, ("a", "b")
BETA = 0.2
NORMALIZATIONS = {"none": None, "running": "running", "group": "group"}


@dataclass(frozen=True)
class Bandit:
    """Prompts ``(P, 4)``, rewards ``(P, V, 2)``, and log π_ref ``(P, V)``."""

    prompts: Tensor
    rewards: Tensor
    reference: Tensor

    def objective(self, **options: Any) -> RLHF:
        """RLHF on samples: a table of rewards for each prompt and token."""
        table = {tuple(prompt.tolist()): rewards for prompt, rewards in zip(self.prompts, self.rewards, strict=True)}

        def column(index: int) -> Any:
            @token_reward
            def reward(prompt_ids: list[list[int]], response_ids: list[list[int]]) -> list[float]:
                pairs = zip(prompt_ids, response_ids, strict=True)
                return [table[tuple(prompt)][response[0], index].item() for prompt, response in pairs]

            return reward

        sampling = Sampling(max_new_tokens=1, stop_token_ids=())
        return RLHF({name: column(i) for i, name in enumerate(NAMES)}, sampling=sampling, **options)

    def policies(self, model: PreferenceModel, preferences: Tensor) -> Tensor:
        """log π_λ of every token to every prompt, ``(N, P, V)``."""
        with torch.no_grad():
            rows = preferences.repeat_interleave(len(self.prompts), dim=0)
            logits = model(self.prompts.repeat(len(preferences), 1), preferences=rows).logits[:, -1]
        return logits.log_softmax(-1).view(len(preferences), len(self.prompts), -1)

    def optima(self, preferences: Tensor, rewards: Tensor, beta: float) -> Tensor:
        """The closed form of log π_λ, ``(N, P, V)``."""
        return (self.reference + torch.einsum("pvm,nm->npv", rewards, preferences) / beta).log_softmax(-1)

    def values(self, policies: Tensor, rewards: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """−J_i ``(N, 2)`` and the KL ``(N,)``, means over prompts."""
        kl = (policies.exp() * (policies - self.reference)).sum(-1)
        gains = torch.einsum("npv,pvm->npm", policies.exp(), rewards)
        return -(gains - beta * kl.unsqueeze(-1)).mean(dim=1), kl.mean(dim=1)


def make_bandit(seed: int, heads: int = 4) -> tuple[Bandit, PreferenceModel]:
    """A random problem and a fresh model for it, whose attention has so many heads."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        initializer_range=0.15,
    )
    torch.manual_seed(seed)
    base = LlamaForCausalLM(config).eval()
    prompts = torch.randint(3, VOCABULARY, (PROMPTS, 4))
    rewards = torch.rand(PROMPTS, VOCABULARY, len(NAMES))
    with torch.no_grad():
        reference = base(prompts).logits[:, -1].log_softmax(-1)
    return Bandit(prompts, rewards, reference), PreferenceModel(base, SVDLoRAConfig(NAMES, seed=seed))


def config_of(steps: int, seed: int) -> TrainerConfig:
    """The settings of a training on the bandit: four preferences a step, each with every prompt once."""
    return TrainerConfig(
        steps=steps,
        batch_size=4 * PROMPTS,
        preferences_per_step=4,
        learning_rate=5e-3,
        log_every=steps,
        seed=seed,
        cpu=True,
        progress=False,
    )


def run(algorithm: str, normalization: str, seed: int, steps: int, samples: int) -> dict[str, float]:
    """Train once; the ratio, the mean KL and that of the closed form, and seconds."""
    bandit, model = make_bandit(seed)
    # Rewards are uniform in 0 … 1: divided by their deviation they are some four times larger.
    beta = 4 * BETA if normalization == "running" else BETA
    objective = bandit.objective(
        algorithm=algorithm, beta=beta, samples_per_prompt=samples, normalization=NORMALIZATIONS[normalization]
    )
    rows = [{"prompt_ids": prompt} for prompt in bandit.prompts.tolist()]
    config = config_of(steps, seed)
    start = time.perf_counter()
    ParetoTrainer(model, objective, Linear(), train_data=rows, config=config).train()
    seconds = time.perf_counter() - start
    return {**measured(bandit, model, objective, beta), "seconds": seconds}


def measured(bandit: Bandit, model: PreferenceModel, objective: RLHF, beta: float) -> dict[str, float]:
    """What a trained model reached, summed over all tokens: the ratio, the mean KL and that of the closed form."""
    preferences = simplex_lattice(len(NAMES), 11).float()
    rewards = bandit.rewards / objective.reward_scales.float()
    values, kl = bandit.values(bandit.policies(model.eval(), preferences), rewards, beta)
    best, best_kl = bandit.values(bandit.optima(preferences, rewards, beta), rewards, beta)
    reference_point = (best.max(dim=0).values + 0.1 * (best.max(dim=0).values - best.min(dim=0).values)).tolist()
    return {
        "ratio": hypervolume(values, reference_point) / hypervolume(best, reference_point),
        "kl": kl.mean().item(),
        "best_kl": best_kl.mean().item(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every combination; print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=list(ALGORITHMS))
    parser.add_argument("--normalizations", nargs="+", default=list(NORMALIZATIONS), choices=list(NORMALIZATIONS))
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=16, help="responses to a prompt (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/policy_gradients.json"))
    options = parser.parse_args(arguments)
    results = []
    print(
        f"{'algorithm':<10}{'normalization':<15}{'ratio: least':>13}{'median':>9}{'KL':>7}{'best KL':>9}{'seconds':>9}"
    )
    for algorithm in options.algorithms:
        for normalization in options.normalizations:
            runs = [
                run(algorithm, normalization, seed, options.steps, options.samples) for seed in range(options.seeds)
            ]
            results.append({"algorithm": algorithm, "normalization": normalization, "runs": runs})
            ratios = [result["ratio"] for result in runs]
            kl, best_kl, seconds = (statistics.median(r[key] for r in runs) for key in ("kl", "best_kl", "seconds"))
            print(
                f"{algorithm:<10}{normalization:<15}{min(ratios):>13.4f}{statistics.median(ratios):>9.4f}"
                f"{kl:>7.2f}{best_kl:>9.2f}{seconds:>9.1f}",
                flush=True,
            )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) for key, value in vars(options).items()}
    options.output.write_text(json.dumps({"settings": settings, "results": results}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
