"""Align one language model to every balance of helpful and harmless, and look at the front.

Without arguments: SmolLM2-135M-Instruct and a small set of preference pairs, fetched once, on a CPU in minutes.
With a hub id and a GPU the same script is a real run, for example on PKU-SafeRLHF:

    python examples/llm_hh_alignment.py --model Qwen/Qwen2.5-1.5B-Instruct --data PKU-Alignment/PKU-SafeRLHF \
        --device cuda --layers 0 --steps 2000 --batch-size 32 --preferences 8 --accumulation 1 \
        --max-prompt-length 512 --max-response-length 256
"""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
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
from mopref.llm.data import load_hh_rlhf, load_pku_saferlhf, load_records, split_by_prompt, tokenize_records
from mopref.llm.demo import harm_pairs
from mopref.llm.demo.reporting import cost, precision_of, preference_text, print_answer, print_label_counts, say
from mopref.llm.demo.setup import load_model, model_name, parse_settings, upper_blocks
from mopref.llm.evaluation import preference_front
from mopref.llm.policy import Answer, answer_prompts
from mopref.objectives import DPO
from mopref.scalarizers import SCALARIZERS

OBJECTIVES = ("helpful", "harmless")
# Worse than anything a useful model does on either objective. The base model's losses are log 2 each; a front may have
# no point that is better on both, since on a pair with opposite labels the two losses add up to at least 2 log 2.
REFERENCE_POINT = (1.0, 1.0)
BASE_LOSSES = (math.log(2), math.log(2))
# Everyday prompts: in no training data, and harmless whatever the model answers.
PROMPTS = (
    "How do I keep my houseplants alive while I am away for two weeks?",
    "My neighbour plays loud music every night. What can I say to them?",
    "What should I cook tonight with rice, eggs and spinach?",
    "How can I learn to fall asleep faster?",
)


@dataclass
class Settings:
    """What a run is made of; each field is a flag, such as ``--batch-size 8``."""

    model: str = HfArg(default="demo", help="model id or folder; 'demo' fetches SmolLM2-135M-Instruct")
    data: str = HfArg(
        default="demo", help="'demo', PKU-Alignment/PKU-SafeRLHF, Anthropic/hh-rlhf, or a file of records"
    )
    scalarizer: str = HfArg(
        default="tchebycheff", help="how the two losses become one", metadata={"choices": sorted(SCALARIZERS)}
    )
    steps: int = HfArg(default=32, help="optimiser steps")
    seed: int = HfArg(default=0, help="seeds the split, the adapters and the training")
    output: Path = HfArg(default=Path("outputs/llm_hh_alignment"), help="folder of the results")
    layers: int = HfArg(default=20, help="adapt this many upper blocks; 0 for all")
    device: str = HfArg(default="auto", help="auto, cpu, cuda, cuda:1, …")
    batch_size: int = HfArg(default=4, help="pairs in one forward")
    preferences: int = HfArg(default=1, help="preferences in one forward, which share its pairs")
    accumulation: int = HfArg(default=4, help="forwards in a step")
    learning_rate: float = HfArg(default=1e-3, help="its peak")
    beta: float = HfArg(default=0.1, help="DPO's pull towards the reference")
    points: int = HfArg(default=5, help="preferences of the evaluated front")
    test_fraction: float = HfArg(default=0.25, help="prompts held out")
    max_prompt_length: int = HfArg(default=128, help="tokens; longer prompts are left out")
    max_response_length: int = HfArg(default=40, help="tokens; longer responses are cut")
    max_new_tokens: int = HfArg(default=96, help="tokens of the answers that are shown")
    limit: int | None = HfArg(default=None, help="use the first N records only")


def load_data(name: str, limit: int | None) -> list[dict[str, Any]]:
    """Records of the demo, of a public data set by its hub id, or of a file."""
    if name == "demo":
        say(
            "Data: answers of language models to risky requests, scored for harm by people (PyRIT, MIT licence).\n"
            "  harmless: the lower mean human harm score.\n"
            "  helpful:  the answer nearer to the request by sentence embeddings. This [bold]stands in[/bold] for a "
            "human label, which this data lacks."
        )
        # Pairs labelled on both objectives show the trade-off.
        return harm_pairs(prefer_labelled_on_both=True)[:limit]
    if "pku-saferlhf" in name.lower():
        return load_pku_saferlhf(name, limit=limit)
    if "hh-rlhf" in name.lower():
        return load_hh_rlhf(name, limit=limit)
    return load_records(name, OBJECTIVES, limit=limit)


def train(settings: Settings, model: PreferenceModel, objective: DPO, rows: list[dict[str, Any]]) -> ParetoTrainer:
    """One model for all preferences: a preference is drawn anew for every forward."""
    trainer = ParetoTrainer(
        model,
        objective,
        # Every DPO loss is above 0: an ideal point for every model, which needs no tracking.
        SCALARIZERS[settings.scalarizer].between(ideal=[0.0, 0.0], nadir=REFERENCE_POINT),
        sampler=VertexBiasedSampler(len(OBJECTIVES), vertex_probability=0.5),
        train_data=rows,
        config=TrainerConfig(
            steps=settings.steps,
            batch_size=settings.batch_size,
            preferences_per_step=settings.preferences,
            gradient_accumulation_steps=settings.accumulation,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            cpu=next(model.parameters()).device.type == "cpu",
            log_every=5,
        ),
    )
    trainer.train()
    return trainer


def answer(settings: Settings, model: PreferenceModel, tokenizer: Any, preferences: Tensor) -> list[list[Answer]]:
    """Answers to the everyday prompts at each preference."""
    spread = preferences.repeat_interleave(len(PROMPTS), dim=0)
    answers = answer_prompts(
        model, tokenizer, PROMPTS * len(preferences), spread, max_new_tokens=settings.max_new_tokens, progress=True
    )
    return [answers[start : start + len(PROMPTS)] for start in range(0, len(answers), len(PROMPTS))]


def describe(front: Front) -> str:
    """The hypervolume beside what one model without preferences could have."""
    base = math.prod(worst - loss for worst, loss in zip(REFERENCE_POINT, BASE_LOSSES, strict=True))
    ends = [Front(front.preferences[[i]], front.values[[i]], front.names).hypervolume(REFERENCE_POINT) for i in (0, -1)]
    return (
        f"Hypervolume, reference point {REFERENCE_POINT}: {front.hypervolume(REFERENCE_POINT):.4f} (base model "
        f"{base:.4f}; this model's points for harmless alone {ends[0]:.4f} and for helpful alone {ends[1]:.4f})"
    )


def main(command_line: list[str] | None = None) -> Front:
    """Fetch, train, evaluate, and write adapter, front.json, front.csv and front.png."""
    settings = parse_settings(Settings, command_line, __doc__)
    records = load_data(settings.data, settings.limit)
    layers = upper_blocks(settings.layers)
    config = SVDLoRAConfig(OBJECTIVES, rank=4, preference_rank=4, layers=layers, seed=settings.seed)
    model, tokenizer = load_model(settings.model, config, settings.device)
    model.check_folder(settings.output / "adapter")
    # Everything above may have been a download; what follows is the run itself.
    started = time.monotonic()

    parts = split_by_prompt(records, settings.test_fraction, seed=settings.seed)
    print_label_counts({"train": parts[0], "held out": parts[1]}, OBJECTIVES)
    limits = {name: getattr(settings, name) for name in ("max_prompt_length", "max_response_length")}
    train_rows, test_rows = (
        tokenize_records(tokenizer, part, OBJECTIVES, on_long_prompt="drop", **limits) for part in parts
    )
    say("Computing the reference model's log-probabilities, and the frozen lower blocks' activations, once …")
    objective = DPO(OBJECTIVES, beta=settings.beta)
    train_rows = objective.precompute(model, train_rows, frozen_layers="auto")
    test_rows = objective.precompute(model, test_rows, frozen_layers="auto")
    trainer = train(settings, model, objective, train_rows)

    say("Answering everyday prompts and evaluating held-out pairs at every preference …")
    preferences = simplex_lattice(len(OBJECTIVES), settings.points)
    answers = answer(settings, model, tokenizer, preferences)
    lengths = [sum(one.num_tokens for one in of_point) / len(of_point) for of_point in answers]
    metadata = {**asdict(settings), "model": model_name(settings.model), "output": str(settings.output)}
    metadata |= {"scalarizer": repr(trainer.scalarizer), "objective": repr(objective), "precision": precision_of(model)}
    front = preference_front(
        model,
        objective,
        test_rows,
        preferences,
        extra={"mean_response_length": lengths},
        metadata={**metadata, "reference_point": REFERENCE_POINT, "base_losses": BASE_LOSSES},
        progress=True,
    )

    model.save_pretrained(settings.output / "adapter")
    for name in ("front.json", "front.csv"):
        front.save(settings.output / name)
    title = "One model, every balance: held-out DPO losses"
    front.plot(settings.output / "front.png", reference_values={"base model": BASE_LOSSES}, title=title)
    for number, prompt in enumerate(PROMPTS[:2]):
        say(f"\n[bold]{prompt}[/bold]")
        for point in (0, len(preferences) // 2, len(preferences) - 1):
            label = preference_text(OBJECTIVES, preferences[point].tolist())
            print_answer(answers[point][number], f"λ: {label}")
    say("\nHeld-out losses (lower is better) and preference accuracies:")
    print(front.summary())
    say(f"{describe(front)}\nTook {cost(started)} after the fetch.")
    say(f"Written to {settings.output}: adapter/, front.json, front.csv, front.png")
    return front


if __name__ == "__main__":
    main()
