"""Align one language model to every balance of helpful and harmless, and look at the front.

Without arguments: SmolLM2-135M-Instruct and a small set of preference pairs, fetched once, on a CPU in minutes, as
``mopref train examples/recipes/demo.yaml`` does. With a hub id and a GPU the same script is a real run, for example on
PKU-SafeRLHF:

    python examples/llm_hh_alignment.py --model Qwen/Qwen2.5-1.5B-Instruct --data PKU-Alignment/PKU-SafeRLHF \
        --device cuda --layers 0 --steps 2000 --batch-size 32 --preferences 8 --accumulation 1 \
        --max-prompt-length 512 --max-response-length 256
"""

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.hf_argparser import HfArg

from mopref import Front
from mopref.llm.demo.reporting import cost, preference_text, print_answer, say
from mopref.llm.demo.setup import parse_settings, upper_blocks
from mopref.llm.policy import Answer
from mopref.recipes import (
    AdapterSettings,
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    PartSettings,
    Recipe,
    RecipeError,
    TrainingSettings,
    evaluate,
    train,
)
from mopref.scalarizers import SCALARIZERS

OBJECTIVES = ("helpful", "harmless")
# Worse than anything a useful model does on either objective. The base model's losses are log 2 each; a front may have
# no point that is better on both, since on a pair with opposite labels the two losses add up to at least 2 log 2.
REFERENCE_POINT = (1.0, 1.0)
# A normalised one is for losses whose size is not known.
SCALARIZER_NAMES = sorted(name for name in SCALARIZERS if name != "normalized")
# Everyday prompts: in no training data, and harmless whatever the model answers.
PROMPTS = (
    "How do I keep my houseplants alive while I am away for two weeks?",
    "What can I do with stale bread?",
    "What should I cook tonight with rice, eggs and spinach?",
    "What should I ask a landlord before I rent a flat?",
)


@dataclass
class Settings:
    """What a run is made of; each field is a flag, such as ``--batch-size 8``."""

    model: str = HfArg(default="demo", help="model id or folder; 'demo' fetches SmolLM2-135M-Instruct")
    data: str = HfArg(
        default="demo", help="'demo', PKU-Alignment/PKU-SafeRLHF, Anthropic/hh-rlhf, or a file of records"
    )
    scalarizer: str = HfArg(
        default="tchebycheff", help="how the two losses become one", metadata={"choices": SCALARIZER_NAMES}
    )
    steps: int = HfArg(default=32, help="optimiser steps")
    seed: int = HfArg(default=0, help="seeds the split, the adapters and the training")
    output: Path = HfArg(
        default=Path("outputs/llm_hh_alignment"), help="folder of the results; where it is taken, one with a number"
    )
    layers: int = HfArg(default=20, help="adapt this many upper blocks; 0 for all")
    device: str = HfArg(default="auto", help="auto, cpu, cuda, cuda:1, …")
    batch_size: int = HfArg(default=4, help="pairs in one forward")
    preferences: int = HfArg(default=4, help="preferences in one step, which share its pairs")
    accumulation: int = HfArg(default=4, help="forwards in a step")
    learning_rate: float = HfArg(default=1e-3, help="its peak")
    beta: float = HfArg(default=0.1, help="DPO's pull towards the reference")
    points: int = HfArg(default=5, help="preferences of the evaluated front")
    test_fraction: float = HfArg(default=0.25, help="prompts held out")
    max_prompt_length: int = HfArg(default=128, help="tokens; longer prompts are left out")
    max_response_length: int = HfArg(default=40, help="tokens; longer responses are cut")
    max_new_tokens: int = HfArg(default=96, help="tokens of the answers that are shown")
    limit: int | None = HfArg(default=None, help="use the first N records only")


def recipe_of(settings: Settings) -> Recipe:
    """The recipe that these flags say."""
    loader, source, options = data_of(settings.data)
    return Recipe(
        objectives=OBJECTIVES,
        data=DataSettings(
            loader=loader,
            source=source,
            options=options | ({} if settings.limit is None else {"limit": settings.limit}),
            test_fraction=settings.test_fraction,
            max_prompt_length=settings.max_prompt_length,
            max_response_length=settings.max_response_length,
            on_long_prompt="drop",
        ),
        model=ModelSettings(name=settings.model, device=settings.device),
        adapter=AdapterSettings(rank=4, preference_rank=4, layers=upper_blocks(settings.layers)),
        objective=PartSettings("dpo", {"beta": settings.beta}),
        scalarizer=PartSettings(settings.scalarizer, scalarizer_options(settings.scalarizer)),
        sampler=PartSettings("vertex-biased", {"vertex_probability": 0.5}),
        training=TrainingSettings(
            steps=settings.steps,
            batch_size=settings.batch_size,
            preferences_per_step=settings.preferences,
            gradient_accumulation_steps=settings.accumulation,
            learning_rate=settings.learning_rate,
            log_every=5,
        ),
        evaluation=EvaluationSettings(
            points=settings.points,
            reference_point=REFERENCE_POINT,
            prompts=PROMPTS,
            max_new_tokens=settings.max_new_tokens,
            sampled_prompts=8,
        ),
        seed=settings.seed,
        output=str(free_folder(settings.output)),
    )


def data_of(name: str) -> tuple[str, str | None, dict[str, Any]]:
    """The loader, its source and its options: of the demo, of a public data set by its hub id, or of a file."""
    if name == "demo":
        # Pairs labelled on both objectives show the trade-off.
        return "harm-pairs", None, {"prefer_labelled_on_both": True, "max_characters": 1200, "everyday": True}
    if "pku-saferlhf" in name.lower():
        return "pku-saferlhf", name, {}
    return ("hh-rlhf" if "hh-rlhf" in name.lower() else "records"), name, {}


def scalarizer_options(name: str) -> dict[str, Any]:
    """The options of a scalarizer of losses between 0 and the reference point."""
    # Every DPO loss is above 0: an ideal point for every model, which needs no tracking.
    options = SCALARIZERS[name].between(ideal=[0.0, 0.0], nadir=REFERENCE_POINT).options()
    return {key: value.tolist() if isinstance(value, Tensor) else value for key, value in options.items()}


def free_folder(folder: Path) -> Path:
    """The folder, or the first with a number behind its name that holds nothing: no run is written over another."""
    number, free = 1, folder
    while free.is_dir() and any(free.iterdir()):
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def describe(front: Front) -> str:
    """The hypervolume beside what one model without preferences could have."""
    losses = front.metadata["base_losses"]
    base = math.prod(worst - loss for worst, loss in zip(REFERENCE_POINT, losses, strict=True))
    ends = [Front(front.preferences[[i]], front.values[[i]], front.names).hypervolume(REFERENCE_POINT) for i in (0, -1)]
    return (
        f"Hypervolume, reference point {REFERENCE_POINT}: {front.hypervolume(REFERENCE_POINT):.4f} (base model "
        f"{base:.4f}; this model's points for harmless alone {ends[0]:.4f} and for helpful alone {ends[1]:.4f})"
    )


def show_answers(folder: Path) -> None:
    """Answers to two of the prompts at both corners and between them."""
    entries: list[Mapping[str, Any]] = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    for prompt in PROMPTS[:2]:
        say(f"\n[bold]{prompt}[/bold]")
        answers = [entry for entry in entries if entry["prompt"] == prompt]
        for entry in (answers[0], answers[len(answers) // 2], answers[-1]):
            label = preference_text(OBJECTIVES, list(entry["preference"].values()))
            print_answer(Answer(entry["answer"], entry["tokens"]), f"λ: {label}")


def main(command_line: list[str] | None = None) -> Front:
    """Fetch, train, evaluate, and write a run's folder: adapter, front.json, front.csv, front.png and more."""
    settings = parse_settings(Settings, command_line, __doc__)
    started = time.monotonic()
    if settings.data == "demo":
        say(
            "Data: answers of language models to risky requests, scored for harm by people (PyRIT, MIT licence).\n"
            "  harmless: the lower mean human harm score.\n"
            "  helpful:  the answer nearer to the request by sentence embeddings. This [bold]stands in[/bold] for a "
            "human label, which this data lacks.\n"
            "Everyday requests with answers written for this project teach helpful, too, beside refusals."
        )
    try:
        run = train(recipe_of(settings), tell=say)
    except RecipeError as error:
        sys.exit(str(error))
    front = evaluate(run, tell=say)

    show_answers(run.folder)
    say("\nHeld-out losses (lower is better) and preference accuracies:")
    print(front.summary())
    say(f"{describe(front)}\nTook {cost(started)}.")
    say(f"Written to {run.folder}: recipe.yaml, adapter/, front.json, front.csv, front.png, answers.json")
    return front


if __name__ == "__main__":
    main()
