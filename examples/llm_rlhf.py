"""Align one language model to every balance of several rewards by policy gradients, and look at the front.

Without arguments: SmolLM2-135M-Instruct, everyday questions and three rewards that need no labels, fetched once, on a
CPU in minutes. With a hub id and a GPU the same script is a real run on your own prompts:

    python examples/llm_rlhf.py --model Qwen/Qwen2.5-1.5B-Instruct --prompts prompts.txt \
        --rewards relevant harmless concise --device cuda --layers 0 --steps 1000 --batch-size 32 --preferences 8 \
        --samples 8 --max-new-tokens 256
"""

import argparse
import json
import os
import random
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from transformers import AutoTokenizer

from mopref import (
    Front,
    ParetoTrainer,
    PreferenceModel,
    SVDLoRAConfig,
    TrainerConfig,
    VertexBiasedSampler,
    simplex_lattice,
)
from mopref.llm.data.tokenization import tokenize_prompts
from mopref.llm.demo.assets import minilm, smollm2
from mopref.llm.demo.harm_reward import learned_harm_reward
from mopref.llm.policy.generation import Sampling, answer_prompts
from mopref.llm.policy_gradient import ALGORITHMS
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards, reward_front
from mopref.llm.rewards import Conciseness, ProfanityFree, Relevance, VaderSentiment, shared_embedder
from mopref.llm.rewards.reward import describe_rewards
from mopref.objectives import RLHF
from mopref.plotting import plot_heat_map
from mopref.scalarizers import Linear

# A reward of your own is one line here: any callable (prompts, responses) -> one number each, higher is better.
REWARDS: dict[str, Callable[[argparse.Namespace], Any]] = {
    # Nearness of answer and question stands in for helpfulness, which takes a reward model or people to judge.
    "relevant": lambda arguments: Relevance(shared_embedder(minilm())),
    "positive": lambda arguments: VaderSentiment(),
    "concise": lambda arguments: Conciseness(target_length=arguments.target_length),
    "harmless": lambda arguments: learned_harm_reward(),
    "clean": lambda arguments: ProfanityFree(),
}
QUESTIONS = Path(__file__).with_name("everyday_answers.jsonl")
INSTRUCTION = "Answer in one short sentence."
SHOWN_PROMPTS = 2
console = Console(highlight=False, soft_wrap=True)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train one preference-conditioned language model by policy gradients on several rewards at once, "
        "and evaluate it at every balance on held-out prompts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", default="demo", help="model id or folder; 'demo' fetches SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", type=Path, default=None, help="a text file with a prompt on each line")
    parser.add_argument(
        "--rewards",
        nargs="+",
        default=["relevant", "positive", "concise"],
        choices=list(REWARDS),
        help="two or more, in the order of a preference",
    )
    parser.add_argument("--algorithm", default="rloo", choices=list(ALGORITHMS))
    parser.add_argument("--steps", type=int, default=50, help="optimiser steps")
    parser.add_argument("--seed", type=int, default=0, help="seeds the split, the adapters and the training")
    parser.add_argument("--output", type=Path, default=Path("outputs/llm_rlhf"), help="folder of the results")
    parser.add_argument("--layers", type=int, default=8, help="adapt this many upper blocks; 0 for all")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--batch-size", type=int, default=12, help="prompts of one rollout")
    parser.add_argument(
        "--preferences", type=int, default=6, help="preferences of one rollout, which share its prompts"
    )
    parser.add_argument("--samples", type=int, default=4, help="responses to each prompt")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--beta", type=float, default=0.1, help="pull towards the base model, in rewards' deviations")
    parser.add_argument("--max-new-tokens", type=int, default=24, help="tokens after which a response is cut")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--target-length", type=int, default=10, help="tokens up to which 'concise' is fully rewarded")
    parser.add_argument("--test-prompts", type=int, default=16, help="prompts held out")
    parser.add_argument("--test-samples", type=int, default=6, help="fresh responses to each held-out prompt")
    parser.add_argument("--points", type=int, default=6, help="preferences of the evaluated front")
    return parser.parse_args(arguments)


def load_prompts(path: Path | None, test_prompts: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Prompts to train on and prompts held out, as chat messages with an instruction to be short."""
    if path is None:
        questions = [json.loads(line)["question"] for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    else:
        questions = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(questions) <= test_prompts:
        sys.exit(
            f"{len(questions)} prompts, of which {test_prompts} are to be held out: none would be left to train on."
        )
    random.Random(seed).shuffle(questions)
    messages = [
        [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": question}] for question in questions
    ]
    return messages[test_prompts:], messages[:test_prompts]


def load_model(arguments: argparse.Namespace) -> tuple[PreferenceModel, Any]:
    """The base model with fresh adapters on its upper blocks, and its tokenizer."""
    name = str(smollm2()) if arguments.model == "demo" else arguments.model
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    layers = tuple(range(-arguments.layers, 0)) or None
    # No shared directions (rank 0): what one reward teaches does not leak into the others' corners.
    config = SVDLoRAConfig(
        objectives=tuple(arguments.rewards), rank=0, preference_rank=8, layers=layers, seed=arguments.seed
    )
    dtype = torch.bfloat16 if str(device).startswith("cuda") else torch.float32
    return PreferenceModel.from_pretrained(name, config, dtype=dtype).to(device), AutoTokenizer.from_pretrained(name)


def show_answers(model: PreferenceModel, tokenizer: Any, prompts: list[Any], names: list[str], limit: int) -> None:
    """Greedy answers of the base model and at each corner."""
    shown = prompts[:SHOWN_PROMPTS]
    with model.disabled():
        answers = {"base model": answer_prompts(model, tokenizer, shown, None, max_new_tokens=limit)}
    for name, corner in zip(names, torch.eye(len(names)), strict=True):
        answers[name] = answer_prompts(model, tokenizer, shown, corner.view(1, -1), max_new_tokens=limit)
    for index, prompt in enumerate(shown):
        console.print(f"\n[bold]{prompt[-1]['content']}[/bold]")
        for name, given in answers.items():
            console.print(f"  {name} ({given[index].num_tokens} tokens)")
            console.print(textwrap.indent(textwrap.fill(given[index].text, 100), "    "), markup=False)


def main(command_line: list[str] | None = None) -> Front:
    """Fetch, train, evaluate, and write adapter, front.json, front.csv, front.png and rollouts.csv."""
    arguments = parse_arguments(command_line)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    model, tokenizer = load_model(arguments)
    rewards = {name: REWARDS[name](arguments) for name in arguments.rewards}
    for name, direction in describe_rewards(rewards).items():
        console.print(f"  {name}: {direction}")
    # Everything above may have been a download; what follows is the run itself.
    started = time.monotonic()
    train_prompts, test_prompts = load_prompts(arguments.prompts, arguments.test_prompts, arguments.seed)
    train, test = tokenize_prompts(tokenizer, train_prompts), tokenize_prompts(tokenizer, test_prompts)
    console.print(f"{len(train)} prompts to train on, {len(test)} held out")

    objective = RLHF(
        rewards,
        tokenizer,
        algorithm=arguments.algorithm,
        beta=arguments.beta,
        samples_per_prompt=arguments.samples,
        sampling=Sampling(max_new_tokens=arguments.max_new_tokens, temperature=arguments.temperature),
        frozen_layers=arguments.layers > 0,
        seed=arguments.seed,
    )
    trainer = ParetoTrainer(
        model,
        objective,
        Linear(),
        sampler=VertexBiasedSampler(len(rewards), vertex_probability=0.6),
        train_data=train,
        config=TrainerConfig(
            steps=arguments.steps,
            batch_size=arguments.batch_size,
            preferences_per_step=arguments.preferences,
            learning_rate=arguments.learning_rate,
            seed=arguments.seed,
            cpu=next(model.parameters()).device.type == "cpu",
            log_every=5,
        ),
    )
    trainer.train()

    console.print("Sampling fresh responses to the held-out prompts at every preference …")
    evaluation = {
        "batch_size": 16,
        "samples_per_prompt": arguments.test_samples,
        "with_kl": False,
        "seed": arguments.seed,
        "progress": True,
    }
    base = evaluate_rewards(model, objective, test, None, **evaluation)
    front = reward_front(
        model,
        objective,
        test,
        simplex_lattice(len(rewards), arguments.points),
        metadata={
            "seed": arguments.seed,
            "model": "SmolLM2-135M-Instruct" if arguments.model == "demo" else arguments.model,
            "algorithm": arguments.algorithm,
            "steps": arguments.steps,
            "base_rewards": base.rewards[0].tolist(),
            "base_standard_errors": base.standard_errors[0].tolist(),
            "base_length": base.lengths[0].item(),
            "base_truncated": base.truncated[0].item(),
        },
        **evaluation,
    )

    arguments.output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.output / "adapter")
    front.save(arguments.output / "front.json")
    front.save(arguments.output / "front.csv")
    pd.DataFrame(objective.history).to_csv(arguments.output / "rollouts.csv", index=False)
    picture, title = arguments.output / "front.png", "One model, every balance: mean rewards on held-out prompts"
    if len(rewards) == 2:
        front.plot(picture, reference_values={"base model": base.rewards[0].tolist()}, title=title)
    else:
        plot_heat_map(front, picture, title=title)
    show_answers(model, tokenizer, test_prompts, list(rewards), arguments.max_new_tokens)
    console.print("\nMean rewards on held-out prompts, fresh samples (higher is better):")
    print(front.summary())
    described = ", ".join(
        f"{name} {reward:.3f} ± {error:.3f}"
        for name, reward, error in zip(rewards, base.rewards[0].tolist(), base.standard_errors[0].tolist(), strict=True)
    )
    console.print(
        f"Base model: {described}; {base.lengths[0]:.1f} tokens a response, {base.truncated[0]:.0%} cut "
        "(± is one standard error over prompts)"
    )
    console.print(f"Took {(time.monotonic() - started) / 60:.1f} min after the fetch.")
    console.print(f"Written to {arguments.output}: adapter/, front.json, front.csv, front.png, rollouts.csv")
    return front


if __name__ == "__main__":
    main()
