"""Fine-tune one language model to three styles of answering at once, and let a preference mix them.

Without arguments: SmolLM2-135M-Instruct, fetched once, and the small set of everyday questions beside this script, on a
CPU in minutes. The same answers are written in three styles, so that nothing but the style differs:

    brief   Less green pigment.
    list    - The green pigment fades.
            - Yellow that was hidden shows.
    loud    THE GREEN PIGMENT FADES! YELLOW THAT WAS HIDDEN SHOWS!

With linear scalarization the best model for λ is the mixture of the three: λ_i is the share of answers in style i.
"""

import argparse
import json
import math
import os
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from transformers import AutoTokenizer

from mopref import DirichletSampler, Front, ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.records import split_by_prompt
from mopref.llm.data.tokenization import tokenize_responses
from mopref.llm.demo.assets import smollm2
from mopref.llm.policy.generation import Sampling, answer_prompts
from mopref.objectives import SFT
from mopref.plotting import plot_heat_map
from mopref.scalarizers import Linear

DEMO_DATA = Path(__file__).with_name("everyday_answers.jsonl")
STYLES = ("brief", "list", "loud")
# The corners, the middles of the edges, and the centre.
PREFERENCES = torch.tensor(
    [
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
        [0.5, 0.5, 0.0],
        [0.5, 0.0, 0.5],
        [0.0, 0.5, 0.5],
        [1 / 3, 1 / 3, 1 / 3],
    ]
)
SHOWN_QUESTIONS = 2
MOST_TOKENS = 40
# A style shows within the first tokens of an answer; a brief one has ended by then.
STYLE_TOKENS = 16
LONGEST_BRIEF_ANSWER = 8  # words
KEPT_ACTIVATIONS_LIMIT = 2 * 1024**3  # bytes
console = Console(highlight=False, soft_wrap=True)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Fine-tune one preference-conditioned language model on three styles of answering at once, and "
        "evaluate it at the corners, the middles of the edges and the centre of the preferences.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", default="demo", help="model id or folder; 'demo' fetches SmolLM2-135M-Instruct")
    parser.add_argument(
        "--data",
        default="demo",
        help="'demo', or a file of JSON lines with question, brief (a short answer) and sentences (a list, the long "
        "answer)",
    )
    parser.add_argument(
        "--per-token", action="store_true", help="losses per token, not per answer: λ is then no share of answers"
    )
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps")
    parser.add_argument("--seed", type=int, default=0, help="seeds the split, adapters, training and samples")
    parser.add_argument("--output", type=Path, default=Path("outputs/llm_sft_styles"), help="folder of the results")
    parser.add_argument("--layers", type=int, default=12, help="adapt this many upper blocks; 0 for all")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--batch-size", type=int, default=12, help="rows in one forward, at least 3 a preference")
    parser.add_argument("--preferences", type=int, default=4, help="preferences in one forward, which share its rows")
    parser.add_argument("--accumulation", type=int, default=1, help="forwards in a step")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--test-fraction", type=float, default=0.25, help="questions held out")
    parser.add_argument(
        "--samples", type=int, default=2, help="sampled answers to each held-out question at each preference"
    )
    return parser.parse_args(arguments)


def in_style(style: str, brief: str, sentences: list[str]) -> str:
    """One answer in the style of that name."""
    if style == "brief":
        return brief
    if style == "list":
        return "\n".join(f"- {sentence}" for sentence in sentences)
    return " ".join(sentences).upper().replace(".", "!")


def style_of(answer: str, is_whole: bool) -> str | None:
    """The style an answer, or its beginning, is written in; None for another one."""
    letters = [letter for letter in answer if letter.isalpha()]
    if answer.startswith("-"):
        return "list"
    if letters and all(letter.isupper() for letter in letters):
        return "loud"
    return "brief" if letters and is_whole and len(answer.split()) <= LONGEST_BRIEF_ANSWER else None


def load_data(name: str) -> list[dict[str, Any]]:
    """Records of all answers in all styles, of the demo or of a file."""
    path = DEMO_DATA if name == "demo" else Path(name)
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        entry = json.loads(line)
        missing = [column for column in ("question", "brief", "sentences") if not entry.get(column)]
        if missing:
            sys.exit(f"{path}, line {number}: {', '.join(missing)} missing or empty.")
        for style in STYLES:
            answer = in_style(style, entry["brief"], entry["sentences"])
            records.append({"prompt": entry["question"], "response": answer, "dimension": style})
    return records


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
    config = SVDLoRAConfig(objectives=STYLES, rank=4, preference_rank=4, layers=layers, seed=arguments.seed)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return PreferenceModel.from_pretrained(name, config, dtype=dtype).to(device), AutoTokenizer.from_pretrained(name)


def keeps_activations(rows: list[dict[str, Any]], model: PreferenceModel, layers: int) -> bool:
    """Whether the activations below the adapters are worth keeping: some blocks are frozen, and memory suffices."""
    tokens = sum(len(row["prompt_ids"]) + len(row["response_ids"]) for row in rows)
    size = tokens * model.config.hidden_size * next(model.parameters()).element_size()
    return layers > 0 and size <= KEPT_ACTIVATIONS_LIMIT


def style_shares(
    model: PreferenceModel, tokenizer: Any, questions: list[str], samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The shares of styles among sampled answers, ``(N, 3)``, and how many were drawn for each preference."""
    prompts = questions * samples
    torch.manual_seed(seed)
    shares = []
    for preference in PREFERENCES:
        answers = answer_prompts(
            model, tokenizer, prompts, preference[None], sampling=Sampling(max_new_tokens=STYLE_TOKENS)
        )
        found = [style_of(answer.text, is_whole=answer.num_tokens < STYLE_TOKENS) for answer in answers]
        shares.append([found.count(style) / len(found) for style in STYLES])
    return torch.tensor(shares), torch.tensor(len(prompts))


def weights_of(preference: Tensor) -> str:
    """A preference in words."""
    return ", ".join(f"{style} {weight:.2f}" for style, weight in zip(STYLES, preference.tolist(), strict=True))


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
    records = load_data(arguments.data)
    model, tokenizer = load_model(arguments, device)
    # Everything above may have been a download; what follows is the run itself.
    started = time.monotonic()
    train_records, test_records = split_by_prompt(records, arguments.test_fraction, seed=arguments.seed)
    questions = list(dict.fromkeys(record["prompt"] for record in test_records))
    console.print(
        f"{len(train_records) // len(STYLES)} questions to train on and {len(questions)} held out, each answered in "
        f"the styles {', '.join(STYLES)}"
    )

    objective = SFT(STYLES, length_normalized=arguments.per_token)
    train = tokenize_responses(tokenizer, train_records, STYLES)
    test = tokenize_responses(tokenizer, test_records, STYLES)
    if keeps_activations(train + test, model, arguments.layers):
        console.print("Computing the frozen lower blocks' activations once …")
        train, test = objective.precompute(model, train), objective.precompute(model, test)
    trainer = ParetoTrainer(
        model,
        objective,
        Linear(),
        # Corners and edges are small parts of the simplex, but its most different ones.
        sampler=DirichletSampler(len(STYLES), alpha=0.5),
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

    console.print("Evaluating and answering the held-out questions at every preference …")
    with evaluation_mode(model), model.disabled():
        base = objective.mean_losses(model, test, PREFERENCES[:1].to(device), arguments.batch_size)[0].tolist()
    reached = trainer.front(PREFERENCES, data=test)
    shares, drawn = style_shares(model, tokenizer, questions, arguments.samples, arguments.seed)
    shown = questions[:SHOWN_QUESTIONS]
    answers = answer_prompts(
        model,
        tokenizer,
        shown * len(PREFERENCES),
        PREFERENCES.repeat_interleave(len(shown), dim=0),
        # Cooler than the samples that are counted, which makes a small model wander less.
        sampling=Sampling(max_new_tokens=MOST_TOKENS, temperature=0.5),
    )
    front = Front(
        preferences=reached.preferences,
        values=reached.values,
        names=STYLES,
        extra={f"share_{style}": shares[:, i].tolist() for i, style in enumerate(STYLES)},
        metadata={
            **reached.metadata,
            "model": "SmolLM2-135M-Instruct" if arguments.model == "demo" else arguments.model,
            "per_token": arguments.per_token,
            "base_losses": base,
            "samples_per_preference": int(drawn),
        },
    )

    arguments.output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.output / "adapter")
    front.save(arguments.output / "front.json")
    front.save(arguments.output / "front.csv")
    unit = "token" if arguments.per_token else "answer"
    plot_heat_map(front, arguments.output / "front.png", title=f"Held-out loss of each style, nats per {unit}")
    for index, question in enumerate(shown):
        console.print(f"\n[bold]{question}[/bold]")
        for point, preference in enumerate(PREFERENCES):
            console.print(f"  λ: {weights_of(preference)}")
            console.print(textwrap.indent(answers[point * len(shown) + index].text, "    "), markup=False)
    console.print(
        f"\nHeld-out losses (nats per {unit}, lower is better), and shares of styles in {int(drawn)} sampled answers:"
    )
    print(front.summary())
    console.print(f"Base model: {', '.join(f'{style} {loss:.2f}' for style, loss in zip(STYLES, base, strict=True))}")
    if not arguments.per_token:
        console.print(
            "In a perfect mixture a style's loss is that of its corner plus at most log 1/λ: "
            f"{math.log(2):.2f} at λ = 1/2, {math.log(3):.2f} at 1/3."
        )
    console.print(f"Shares differ from λ by {(shares - PREFERENCES).abs().mean():.2f} on average.")
    console.print(f"Took {(time.monotonic() - started) / 60:.1f} min after the fetch{peak_memory()}.")
    console.print(f"Written to {arguments.output}: adapter/, front.json, front.csv, front.png")
    return front


if __name__ == "__main__":
    main()
