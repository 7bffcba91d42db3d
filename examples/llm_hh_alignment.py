"""Align one language model to every balance of helpful and harmless, and look at the front.

Without arguments: SmolLM2-135M-Instruct and a small set of preference pairs, fetched once, on a CPU in minutes.
With a hub id and a GPU the same script is a real run, for example on PKU-SafeRLHF:

    python examples/llm_hh_alignment.py --model Qwen/Qwen2.5-1.5B-Instruct --data PKU-Alignment/PKU-SafeRLHF \
        --device cuda --layers 0 --steps 2000 --batch-size 32 --preferences 8 --accumulation 1 \
        --max-prompt-length 512 --max-response-length 256
"""

import argparse
import math
import os
import sys
import textwrap
import time
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import AutoTokenizer

from mopref import (
    Front,
    ParetoTrainer,
    PreferenceModel,
    Scalarizer,
    SVDLoRAConfig,
    TrainerConfig,
    VertexBiasedSampler,
    simplex_lattice,
)
from mopref.llm.data.loaders import load_hh_rlhf, load_pku_saferlhf, load_records
from mopref.llm.data.records import label_counts, split_by_prompt
from mopref.llm.data.tokenization import tokenize_records
from mopref.llm.demo.assets import smollm2
from mopref.llm.demo.harm_pairs import harm_pairs
from mopref.llm.evaluation import preference_front
from mopref.llm.policy.generation import answer_prompts
from mopref.objectives import DPO
from mopref.scalarizers import SCALARIZERS

OBJECTIVES = ("helpful", "harmless")
# Worse than anything a useful model does on either objective. The base model's losses are log 2 each; a front may have
# no point that is better on both, since on a pair with opposite labels the two losses add up to at least 2 log 2.
REFERENCE_POINT = (1.0, 1.0)
BASE_LOSS = math.log(2)
# Everyday prompts: in no training data, and harmless whatever the model answers.
PROMPTS = (
    "How do I keep my houseplants alive while I am away for two weeks?",
    "My neighbour plays loud music every night. What can I say to them?",
    "What should I cook tonight with rice, eggs and spinach?",
    "How can I learn to fall asleep faster?",
)
SHOWN_PROMPTS = 2
MAX_NEW_TOKENS = 96
KEPT_ACTIVATIONS_LIMIT = 2 * 1024**3  # bytes
console = Console(highlight=False, soft_wrap=True)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; an unknown scalarizer is refused here with the known ones listed."""
    parser = argparse.ArgumentParser(
        description="Train one preference-conditioned language model with DPO on helpful and harmless at once, and "
        "evaluate it at every balance.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", default="demo", help="model id or folder; 'demo' fetches SmolLM2-135M-Instruct")
    parser.add_argument(
        "--data",
        default="demo",
        help="'demo', PKU-Alignment/PKU-SafeRLHF, Anthropic/hh-rlhf, or a file of records (prompt, response_0, "
        "response_1, helpful, harmless)",
    )
    parser.add_argument("--scalarizer", default="tchebycheff", choices=sorted(SCALARIZERS))
    parser.add_argument("--steps", type=int, default=32, help="optimiser steps")
    parser.add_argument("--seed", type=int, default=0, help="seeds the split, the adapters and the training")
    parser.add_argument("--output", type=Path, default=Path("outputs/llm_hh_alignment"), help="folder of the results")
    parser.add_argument("--layers", type=int, default=20, help="adapt this many upper blocks; 0 for all")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--batch-size", type=int, default=4, help="pairs in one forward")
    parser.add_argument("--preferences", type=int, default=1, help="preferences in one forward, which share its pairs")
    parser.add_argument("--accumulation", type=int, default=4, help="forwards in a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--beta", type=float, default=0.1, help="DPO's pull towards the reference")
    parser.add_argument("--points", type=int, default=5, help="preferences of the evaluated front")
    parser.add_argument("--test-fraction", type=float, default=0.25, help="prompts held out")
    parser.add_argument("--max-prompt-length", type=int, default=128, help="tokens; longer prompts are left out")
    parser.add_argument("--max-response-length", type=int, default=40, help="tokens; longer responses are cut")
    parser.add_argument("--limit", type=int, default=None, help="use the first N records only")
    return parser.parse_args(arguments)


def load_data(name: str, limit: int | None) -> list[dict[str, Any]]:
    """Records of the demo, of a public data set by its hub id, or of a file."""
    if name == "demo":
        console.print(
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


def pick_device(name: str) -> torch.device:
    """The device asked for; with "auto" the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            sys.exit(f"--device {name}: PyTorch sees no CUDA device here; use --device cpu.")
        torch.cuda.set_device(device)
    return device


def load_model(arguments: argparse.Namespace, device: torch.device) -> tuple[PreferenceModel, Any]:
    """The base model with fresh adapters on its upper blocks, and its tokenizer."""
    name = str(smollm2()) if arguments.model == "demo" else arguments.model
    layers = tuple(range(-arguments.layers, 0)) or None
    config = SVDLoRAConfig(objectives=OBJECTIVES, rank=4, preference_rank=4, layers=layers, seed=arguments.seed)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return PreferenceModel.from_pretrained(name, config, dtype=dtype).to(device), AutoTokenizer.from_pretrained(name)


def make_scalarizer(name: str) -> Scalarizer:
    """The scalarizer of that name: DPO's losses are at least 0, and the table's reference point bounds them above."""
    above, below = list(REFERENCE_POINT), [0.0, 0.0]
    points = {"ideal": below, "nadir": above, "reference_point": above if name == "hypervolume" else below}
    taken = signature(SCALARIZERS[name]).parameters
    return SCALARIZERS.make(name, **{point: place for point, place in points.items() if point in taken})


def keeps_activations(rows: list[dict[str, Any]], model: PreferenceModel, layers: int) -> bool:
    """Whether the activations below the adapters are worth keeping: some blocks are frozen, and memory suffices."""
    tokens = sum(2 * len(r["prompt_ids"]) + len(r["response_0_ids"]) + len(r["response_1_ids"]) for r in rows)
    size = tokens * model.config.hidden_size * next(model.parameters()).element_size()
    return layers > 0 and size <= KEPT_ACTIVATIONS_LIMIT


def describe(front: Front) -> str:
    """The hypervolume beside what one model without preferences could have."""
    base = (REFERENCE_POINT[0] - BASE_LOSS) * (REFERENCE_POINT[1] - BASE_LOSS)
    single = [
        Front(front.preferences[i : i + 1], front.values[i : i + 1], front.names).hypervolume(REFERENCE_POINT)
        for i in (0, len(front) - 1)
    ]
    return (
        f"Hypervolume, reference point {REFERENCE_POINT}: {front.hypervolume(REFERENCE_POINT):.4f} "
        f"(base model {base:.4f}; this model's points for {front.names[1]} alone {single[0]:.4f} and for "
        f"{front.names[0]} alone {single[1]:.4f})"
    )


def peak_memory() -> str:
    """The most memory this process has held, in words; empty where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return f"; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**3:.1f} GiB"


def main(command_line: list[str] | None = None) -> Front:
    """Fetch, train, evaluate, and write adapter, front.json, front.csv and front.png."""
    arguments = parse_arguments(command_line)
    device = pick_device(arguments.device)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    records = load_data(arguments.data, arguments.limit)
    model, tokenizer = load_model(arguments, device)
    # Everything above may have been a download; what follows is the run itself.
    started = time.monotonic()
    train_records, test_records = split_by_prompt(records, arguments.test_fraction, seed=arguments.seed)
    for part, chosen in (("train", train_records), ("held out", test_records)):
        counts = label_counts(chosen, OBJECTIVES)
        console.print(
            f"{part}: {counts.records} pairs on {counts.prompts} prompts; labelled on both objectives "
            f"{counts.labelled_on_all}, of these {counts.in_conflict} with opposite labels"
        )

    objective = DPO(OBJECTIVES, beta=arguments.beta)
    limits = {
        "max_prompt_length": arguments.max_prompt_length,
        "max_response_length": arguments.max_response_length,
        "on_long_prompt": "drop",
    }
    train = tokenize_records(tokenizer, train_records, OBJECTIVES, **limits)
    test = tokenize_records(tokenizer, test_records, OBJECTIVES, **limits)
    # Every DPO loss is above 0: an ideal point for every model, which needs no tracking.
    scalarizer = make_scalarizer(arguments.scalarizer)

    kept = keeps_activations(train + test, model, arguments.layers)
    console.print(
        "Computing the reference model's log-probabilities"
        + (", and the frozen lower blocks' activations, once …" if kept else " once …")
    )
    train = objective.precompute(model, train, frozen_layers=kept)
    test = objective.precompute(model, test, frozen_layers=kept)
    trainer = ParetoTrainer(
        model,
        objective,
        scalarizer,
        sampler=VertexBiasedSampler(len(OBJECTIVES), vertex_probability=0.5),
        train_data=train,
        config=TrainerConfig(
            steps=arguments.steps,
            batch_size=arguments.batch_size,
            preferences_per_step=arguments.preferences,
            gradient_accumulation_steps=arguments.accumulation,
            learning_rate=arguments.learning_rate,
            seed=arguments.seed,
            cpu=device.type == "cpu",
            log_every=5,
        ),
    )
    trainer.train()

    preferences = simplex_lattice(len(OBJECTIVES), arguments.points)
    console.print("Answering everyday prompts at every preference …")
    answers = answer_prompts(
        model,
        tokenizer,
        PROMPTS * len(preferences),
        preferences.repeat_interleave(len(PROMPTS), dim=0),
        max_new_tokens=MAX_NEW_TOKENS,
    )
    lengths = torch.tensor([float(answer.num_tokens) for answer in answers]).view(len(preferences), -1).mean(dim=1)
    front = preference_front(
        model,
        objective,
        test,
        preferences,
        extra={"mean_response_length": lengths.tolist()},
        metadata={
            "seed": arguments.seed,
            "reference_point": REFERENCE_POINT,
            "model": "SmolLM2-135M-Instruct" if arguments.model == "demo" else arguments.model,
            "data": arguments.data,
            "scalarizer": arguments.scalarizer,
            "steps": arguments.steps,
            "base_losses": [BASE_LOSS] * len(OBJECTIVES),
        },
        progress=True,
    )

    arguments.output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.output / "adapter")
    front.save(arguments.output / "front.json")
    front.save(arguments.output / "front.csv")
    front.plot(
        arguments.output / "front.png",
        reference_values={"base model": [BASE_LOSS] * len(OBJECTIVES)},
        title="One model, every balance: held-out DPO losses",
    )
    for prompt_index in range(SHOWN_PROMPTS):
        console.print(f"\n[bold]{PROMPTS[prompt_index]}[/bold]")
        for point in (0, len(preferences) // 2, len(preferences) - 1):
            answer = answers[point * len(PROMPTS) + prompt_index]
            weights = ", ".join(f"{n} {w:.2f}" for n, w in zip(OBJECTIVES, preferences[point].tolist(), strict=True))
            console.print(f"  λ: {weights} ({answer.num_tokens} tokens)")
            console.print(textwrap.indent(textwrap.fill(answer.text, 100), "    "), markup=False)
    console.print("\nHeld-out losses (lower is better) and preference accuracies:")
    print(front.summary())
    console.print(describe(front))
    console.print(f"Took {(time.monotonic() - started) / 60:.1f} min after the fetch{peak_memory()}.")
    console.print(f"Written to {arguments.output}: adapter/, front.json, front.csv, front.png")
    return front


if __name__ == "__main__":
    main()
