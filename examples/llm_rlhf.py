"""Align one language model to every balance of several rewards by policy gradients, and look at the front.

Without arguments: SmolLM2-135M-Instruct, everyday questions and three rewards that need no labels, fetched once, on a
CPU in minutes. With a hub id and a GPU the same script is a real run on your own prompts:

    python examples/llm_rlhf.py --model Qwen/Qwen2.5-1.5B-Instruct --prompts prompts.txt \
        --rewards relevant harmless concise --device cuda --layers 0 --steps 1000 --batch-size 32 --preferences 8 \
        --samples 8 --max-new-tokens 256
"""

import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers.hf_argparser import HfArg

from mopref import (
    Front,
    ParetoTrainer,
    PreferenceModel,
    SVDLoRAConfig,
    TrainerConfig,
    VertexBiasedSampler,
    simplex_lattice,
)
from mopref.llm.data import tokenize_prompts
from mopref.llm.demo import learned_harm_reward, minilm
from mopref.llm.demo.reporting import cost, precision_of, print_answer, say
from mopref.llm.demo.setup import load_model, model_name, parse_settings, upper_blocks
from mopref.llm.evaluation import reward_front
from mopref.llm.policy import Sampling, answer_prompts
from mopref.llm.policy_gradient import ALGORITHMS
from mopref.llm.policy_gradient.reward_statistics import RewardStatistics, evaluate_rewards
from mopref.llm.rewards import (
    Conciseness,
    ProfanityFree,
    Relevance,
    VaderSentiment,
    describe_rewards,
    shared_embedder,
)
from mopref.objectives import RLHF
from mopref.plotting import plot_heat_map
from mopref.scalarizers import Linear

QUESTIONS = Path(__file__).with_name("everyday_answers.jsonl")
INSTRUCTION = "Answer in one short sentence."
# A reward of your own is one line here: any callable (prompts, responses) -> one number each, higher is better.
REWARDS: dict[str, Callable[["Settings"], Any]] = {
    # Nearness of answer and question stands in for helpfulness, which takes a reward model or people to judge.
    "relevant": lambda settings: Relevance(shared_embedder(minilm())),
    "positive": lambda settings: VaderSentiment(),
    "concise": lambda settings: Conciseness(target_length=settings.target_length),
    "harmless": lambda settings: learned_harm_reward(),
    "clean": lambda settings: ProfanityFree(),
}


@dataclass
class Settings:
    """What a run is made of; each field is a flag, such as ``--batch-size 8``."""

    model: str = HfArg(default="demo", help="model id or folder; 'demo' fetches SmolLM2-135M-Instruct")
    prompts: Path | None = HfArg(default=None, help="a text file with a prompt on each line")
    rewards: list[str] = HfArg(
        default_factory=lambda: ["relevant", "positive", "concise"],
        help="two or more, in the order of a preference",
        metadata={"choices": list(REWARDS)},
    )
    algorithm: str = HfArg(default="rloo", help="of policy gradients", metadata={"choices": list(ALGORITHMS)})
    steps: int = HfArg(default=50, help="optimiser steps")
    seed: int = HfArg(default=0, help="seeds the split, the adapters and the training")
    output: Path = HfArg(default=Path("outputs/llm_rlhf"), help="folder of the results")
    layers: int = HfArg(default=8, help="adapt this many upper blocks; 0 for all")
    device: str = HfArg(default="auto", help="auto, cpu, cuda, cuda:1, …")
    batch_size: int = HfArg(default=12, help="prompts of one rollout")
    preferences: int = HfArg(default=6, help="preferences of one rollout, which share its prompts")
    samples: int = HfArg(default=4, help="responses to each prompt")
    learning_rate: float = HfArg(default=3e-3, help="its peak")
    beta: float = HfArg(default=0.1, help="pull towards the base model, in rewards' deviations")
    max_new_tokens: int = HfArg(default=24, help="tokens after which a response is cut")
    temperature: float = HfArg(default=0.8, help="of the samples")
    target_length: int = HfArg(default=10, help="tokens up to which 'concise' is fully rewarded")
    test_prompts: int = HfArg(default=16, help="prompts held out")
    test_samples: int = HfArg(default=6, help="fresh responses to each held-out prompt")
    points: int = HfArg(default=6, help="preferences of the evaluated front")


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


def make_objective(settings: Settings, rewards: dict[str, Any], tokenizer: Any) -> RLHF:
    """All rewards at once, each divided by its running deviation."""
    return RLHF(
        rewards,
        tokenizer,
        algorithm=settings.algorithm,
        beta=settings.beta,
        samples_per_prompt=settings.samples,
        sampling=Sampling(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature),
        frozen_layers=settings.layers > 0,
        seed=settings.seed,
    )


def train(settings: Settings, model: PreferenceModel, objective: RLHF, rows: list[dict[str, Any]]) -> None:
    """One model for all preferences: every rollout has some of them, drawn anew."""
    trainer = ParetoTrainer(
        model,
        objective,
        Linear(),
        sampler=VertexBiasedSampler(objective.num_objectives, vertex_probability=0.6),
        train_data=rows,
        config=TrainerConfig(
            steps=settings.steps,
            batch_size=settings.batch_size,
            preferences_per_step=settings.preferences,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            cpu=next(model.parameters()).device.type == "cpu",
            log_every=5,
        ),
    )
    trainer.train()


def evaluate(
    settings: Settings, model: PreferenceModel, objective: RLHF, rows: list[dict[str, Any]]
) -> tuple[Front, RewardStatistics]:
    """Mean rewards of fresh responses to the held-out prompts: of the model at every preference, and of the base."""
    options: dict[str, Any] = {
        "samples_per_prompt": settings.test_samples,
        "with_kl": False,
        "seed": settings.seed,
        "progress": True,
    }
    base = evaluate_rewards(model, objective.settings, rows, None, **options)
    metadata = {
        **asdict(settings),
        "model": model_name(settings.model),
        "prompts": str(settings.prompts),
        "output": str(settings.output),
        "objective": repr(objective),
        "precision": precision_of(model),
        "base_rewards": base.rewards[0].tolist(),
        "base_standard_errors": base.standard_errors[0].tolist(),
        "base_length": base.lengths[0].item(),
        "base_truncated": base.truncated[0].item(),
    }
    preferences = simplex_lattice(objective.num_objectives, settings.points)
    return reward_front(model, objective.settings, rows, preferences, metadata=metadata, **options), base


def show_answers(model: PreferenceModel, tokenizer: Any, prompts: list[Any], names: list[str], limit: int) -> None:
    """Greedy answers of the base model and at each corner."""
    with model.disabled():
        answers = {"base model": answer_prompts(model, tokenizer, prompts, None, max_new_tokens=limit)}
    for name, corner in zip(names, torch.eye(len(names)), strict=True):
        answers[name] = answer_prompts(model, tokenizer, prompts, corner.view(1, -1), max_new_tokens=limit)
    for index, prompt in enumerate(prompts):
        say(f"\n[bold]{prompt[-1]['content']}[/bold]")
        for name, of_name in answers.items():
            print_answer(of_name[index], name)


def describe_base(names: list[str], base: RewardStatistics) -> str:
    """The base model's mean rewards, with their errors."""
    columns = zip(names, base.rewards[0].tolist(), base.standard_errors[0].tolist(), strict=True)
    rewards = ", ".join(f"{name} {reward:.3f} ± {error:.3f}" for name, reward, error in columns)
    return (
        f"Base model: {rewards}; {base.lengths[0]:.1f} tokens a response, {base.truncated[0]:.0%} cut "
        "(± is one standard error over prompts)"
    )


def main(command_line: list[str] | None = None) -> Front:
    """Fetch, train, evaluate, and write adapter, front.json, front.csv, front.png and rollouts.csv."""
    settings = parse_settings(Settings, command_line, __doc__)
    names = settings.rewards
    # No shared directions (rank 0): what one reward teaches does not leak into the others' corners.
    layers = upper_blocks(settings.layers)
    config = SVDLoRAConfig(tuple(names), rank=0, preference_rank=8, layers=layers, seed=settings.seed)
    model, tokenizer = load_model(settings.model, config, settings.device)
    model.check_folder(settings.output / "adapter")
    rewards = {name: REWARDS[name](settings) for name in names}
    for name, direction in describe_rewards(rewards).items():
        say(f"  {name}: {direction}")
    # Everything above may have been a download; what follows is the run itself.
    started = time.monotonic()

    train_prompts, test_prompts = load_prompts(settings.prompts, settings.test_prompts, settings.seed)
    say(f"{len(train_prompts)} prompts to train on, {len(test_prompts)} held out")
    objective = make_objective(settings, rewards, tokenizer)
    train(settings, model, objective, tokenize_prompts(tokenizer, train_prompts))
    say("Sampling fresh responses to the held-out prompts at every preference …")
    front, base = evaluate(settings, model, objective, tokenize_prompts(tokenizer, test_prompts))

    model.save_pretrained(settings.output / "adapter")
    for name in ("front.json", "front.csv"):
        front.save(settings.output / name)
    pd.DataFrame(objective.history).to_csv(settings.output / "rollouts.csv", index=False)
    picture, title = settings.output / "front.png", "One model, every balance: mean rewards on held-out prompts"
    if len(names) == 2:
        front.plot(picture, reference_values={"base model": base.rewards[0].tolist()}, title=title)
    else:
        plot_heat_map(front, picture, title=title)
    show_answers(model, tokenizer, test_prompts[:2], names, settings.max_new_tokens)
    say("\nMean rewards on held-out prompts, fresh samples (higher is better):")
    print(front.summary())
    say(describe_base(names, base))
    say(f"Took {cost(started)} after the fetch.")
    say(f"Written to {settings.output}: adapter/, front.json, front.csv, front.png, rollouts.csv")
    return front


if __name__ == "__main__":
    main()
