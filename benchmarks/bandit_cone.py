"""One model of balance and strength: how near it comes to the exact policies, beside a model for each strength.

    python benchmarks/bandit_cone.py
    python benchmarks/bandit_cone.py --steps 200 --seeds 0 --gate layer-mlp
    python benchmarks/bandit_cone.py --samples 8 --rate 1e-2

:class:`mopref.known_fronts.ConeBandit` with two rewards and exact gradients (12 prompts, 24 tokens, a Llama of one
layer with random weights). One model is trained on the cone, by ``ConeSampler``; the others on one β each. All have
p = 8 and 8 λ a step at the learning rate 2e-2. Regret over 11 balances at each strength s = β/β', in per cent of what
the untrained base has there; means over seeds. With ``--samples`` all are trained by ``RLHF``, the one model's with a
pull, on so many responses to each of three prompts under each λ, and measured exactly.
"""

import argparse
from collections.abc import Sequence
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from mopref import (
    Objective,
    ParetoTrainer,
    PreferenceModel,
    PreferenceSampler,
    SVDLoRAConfig,
    TrainerConfig,
    simplex_lattice,
)
from mopref.known_fronts import ConeBandit, RewardBandit, tiny_llama
from mopref.llm.policy import Sampling
from mopref.llm.rewards import token_reward
from mopref.objectives import RLHF
from mopref.samplers import ConeSampler, StratifiedSampler, cone_preferences
from mopref.scalarizers import Linear

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
BALANCES = simplex_lattice(2, 11).double()


def on_samples(bandit: RewardBandit, samples: int, **options: Any) -> RLHF:
    """RLHF on samples of a bandit's policies, with its rewards."""
    table = {tuple(prompt): rewards for prompt, rewards in zip(bandit.prompts.tolist(), bandit.rewards, strict=True)}

    def column(index: int) -> Any:
        @token_reward
        def reward(prompt_ids: list[list[int]], response_ids: list[list[int]]) -> list[float]:
            pairs = zip(prompt_ids, response_ids, strict=True)
            return [table[tuple(prompt)][token, index].item() for prompt, (token,) in pairs]

        return reward

    return RLHF(
        {name: column(index) for index, name in enumerate(bandit.names)},
        beta=bandit.beta,
        samples_per_prompt=samples,
        sampling=Sampling(max_new_tokens=1, stop_token_ids=()),
        normalization=None,
        **options,
    )


def trained(
    base: nn.Module,
    objective: Objective,
    sampler: PreferenceSampler,
    prompts: Tensor,
    options: argparse.Namespace,
    seed: int,
) -> PreferenceModel:
    """A model after the training; an objective on samples has three prompts for each preference of a step."""
    rows = [{"prompt_ids": prompt} for prompt in prompts.tolist()] if objective.needs_data else None
    model = PreferenceModel(base, SVDLoRAConfig(objective.names, preference_rank=8, gate=options.gate, seed=seed))
    config = TrainerConfig(
        steps=options.steps,
        learning_rate=options.rate,
        preferences_per_step=8,
        batch_size=8 if rows is None else 24,
        seed=seed,
        log_every=options.steps,
        progress=False,
        cpu=True,
    )
    ParetoTrainer(model, objective, Linear(), sampler=sampler, train_data=rows, config=config).train()
    return model.eval()


def shares(options: argparse.Namespace, seed: int) -> tuple[list[float], list[float]]:
    """The regret of the one model, and of the model for each strength, in per cent of the base's."""
    bandit = ConeBandit.random(tiny_llama(seed=seed), seed=seed)
    cone = on_samples(bandit.fixed, options.samples, pull=bandit.names[-1]) if options.samples else bandit
    one = trained(tiny_llama(seed=seed), cone, ConeSampler(cone.names), bandit.prompts, options, seed)
    of_one, of_many = [], []
    for strength in STRENGTHS:
        preferences = cone_preferences(BALANCES, strength, 2)

        def regret(policies: Tensor, preferences: Tensor = preferences) -> float:
            return float(bandit.regret(bandit.losses_of(policies), preferences).mean())

        base = tiny_llama(seed=seed)
        fixed = RewardBandit(base, bandit.prompts, bandit.rewards, bandit.beta / strength)
        objective = on_samples(fixed, options.samples) if options.samples else fixed
        own = trained(base, objective, StratifiedSampler(fixed.names), bandit.prompts, options, seed)
        untrained = regret(bandit.reference.expand(len(BALANCES), -1, -1))
        with torch.no_grad():
            of_one.append(100 * regret(bandit.log_probabilities(one, preferences)) / untrained)
            of_many.append(100 * regret(fixed.log_probabilities(own, BALANCES)) / untrained)
    return of_one, of_many


def main(words: Sequence[str] | None = None) -> None:
    """Run all seeds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=2e-2)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--gate", choices=("linear", "shared-mlp", "layer-mlp"), default="linear")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    results = [shares(options, seed) for seed in options.seeds]
    how = f", {options.samples} samples" if options.samples else ""
    print(f"| {options.steps} steps, {options.gate}{how} | {' | '.join(f's = {s:g}' for s in STRENGTHS)} |")
    print("|---" * (1 + len(STRENGTHS)) + "|")
    for name, columns in zip(("one model of all s", "one model for each s"), zip(*results, strict=True), strict=True):
        print(f"| {name} | {' | '.join(f'{mean(column):.2f}' for column in zip(*columns, strict=True))} |")


if __name__ == "__main__":
    main()
