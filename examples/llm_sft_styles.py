"""Fine-tune one language model to three styles of answering at once, and let a preference mix them.

Without arguments: SmolLM2-135M-Instruct, fetched once, and the small set of everyday questions beside this script, on a
CPU in minutes. The same answers are written in three styles, so that nothing but the style differs:

    brief   Less green pigment.
    list    - The green pigment fades.
            - Yellow that was hidden shows.
    loud    THE GREEN PIGMENT FADES! YELLOW THAT WAS HIDDEN SHOWS!

With linear scalarization the best model for λ is the mixture of the three: λ_i is the share of answers in style i.
"""

import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.hf_argparser import HfArg

from mopref import DirichletSampler, Front, ParetoTrainer, PreferenceModel, SVDLoRAConfig, TrainerConfig
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data import split_by_prompt, tokenize_responses
from mopref.llm.demo.reporting import cost, preference_text, print_answer, say
from mopref.llm.demo.setup import load_model, model_name, parse_settings, upper_blocks
from mopref.llm.policy import Sampling, answer_prompts
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
# A style shows within the first tokens of an answer; a brief one has ended by then.
STYLE_TOKENS = 16
LONGEST_BRIEF_ANSWER = 8  # words


@dataclass
class Settings:
    """What a run is made of; each field is a flag, such as ``--batch-size 8``."""

    model: str = HfArg(default="demo", help="model id or folder; 'demo' fetches SmolLM2-135M-Instruct")
    data: str = HfArg(
        default="demo", help="'demo', or a file of JSON lines with question, brief (an answer) and sentences (a list)"
    )
    per_token: bool = HfArg(default=False, help="losses per token, not per answer: λ is then no share of answers")
    steps: int = HfArg(default=60, help="optimiser steps")
    seed: int = HfArg(default=0, help="seeds the split, adapters, training and samples")
    output: Path = HfArg(default=Path("outputs/llm_sft_styles"), help="folder of the results")
    layers: int = HfArg(default=12, help="adapt this many upper blocks; 0 for all")
    device: str = HfArg(default="auto", help="auto, cpu, cuda, cuda:1, …")
    batch_size: int = HfArg(default=12, help="rows in one forward, at least 3 a preference")
    preferences: int = HfArg(default=4, help="preferences in one step, which share its rows")
    accumulation: int = HfArg(default=1, help="forwards in a step")
    learning_rate: float = HfArg(default=3e-3, help="its peak")
    test_fraction: float = HfArg(default=0.25, help="questions held out")
    samples: int = HfArg(default=2, help="sampled answers to each held-out question at each preference")
    max_new_tokens: int = HfArg(default=40, help="tokens of the answers that are shown")

    @property
    def unit(self) -> str:
        """What a loss is measured over."""
        return "token" if self.per_token else "answer"


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


def train(settings: Settings, model: PreferenceModel, objective: SFT, rows: list[dict[str, Any]]) -> ParetoTrainer:
    """One model for all mixtures of the styles."""
    trainer = ParetoTrainer(
        model,
        objective,
        Linear(),
        # Corners and edges are small parts of the simplex, but its most different ones.
        sampler=DirichletSampler(len(STYLES), alpha=0.5),
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


def style_shares(model: PreferenceModel, tokenizer: Any, questions: list[str], samples: int, seed: int) -> Tensor:
    """The shares of styles among the answers sampled at each preference, ``(N, 3)``."""
    prompts = questions * samples
    torch.manual_seed(seed)
    shares = []
    for preference in PREFERENCES:
        answers = answer_prompts(
            model, tokenizer, prompts, preference[None], sampling=Sampling(max_new_tokens=STYLE_TOKENS)
        )
        styles = [style_of(answer.text, is_whole=answer.num_tokens < STYLE_TOKENS) for answer in answers]
        shares.append([styles.count(style) / len(styles) for style in STYLES])
    return torch.tensor(shares)


def show_answers(model: PreferenceModel, tokenizer: Any, questions: list[str], limit: int) -> None:
    """Answers at every preference, cooler than the samples that are counted: a small model then wanders less."""
    spread = PREFERENCES.repeat_interleave(len(questions), dim=0)
    sampling = Sampling(max_new_tokens=limit, temperature=0.5)
    answers = answer_prompts(model, tokenizer, questions * len(PREFERENCES), spread, sampling=sampling)
    for index, question in enumerate(questions):
        say(f"\n[bold]{question}[/bold]")
        for point, preference in enumerate(PREFERENCES.tolist()):
            print_answer(answers[point * len(questions) + index], f"λ: {preference_text(STYLES, preference)}")


def report(settings: Settings, front: Front, samples: int) -> None:
    """The front, and how near it is to a perfect mixture."""
    say(f"\nHeld-out losses (nats per {settings.unit}, lower is better), and shares of styles in {samples} samples:")
    print(front.summary())
    base = zip(STYLES, front.metadata["base_losses"], strict=True)
    say("Base model: " + ", ".join(f"{style} {loss:.2f}" for style, loss in base))
    if not settings.per_token:
        say(
            "In a perfect mixture a style's loss is that of its corner plus at most log 1/λ: "
            f"{math.log(2):.2f} at λ = 1/2, {math.log(3):.2f} at 1/3."
        )
    distances = [abs(front.extra[f"share_{style}"] - PREFERENCES[:, i].numpy()) for i, style in enumerate(STYLES)]
    say(f"Shares differ from λ by {sum(d.mean() for d in distances) / len(STYLES):.2f} on average.")


def main(command_line: list[str] | None = None) -> Front:
    """Fetch, train, evaluate, and write adapter, front.json, front.csv and front.png."""
    settings = parse_settings(Settings, command_line, __doc__)
    records = load_data(settings.data)
    layers = upper_blocks(settings.layers)
    config = SVDLoRAConfig(STYLES, rank=4, preference_rank=4, layers=layers, seed=settings.seed)
    model, tokenizer = load_model(settings.model, config, settings.device)
    model.check_folder(settings.output / "adapter")
    # Everything above may have been a download; what follows is the run itself.
    started = time.monotonic()

    parts = split_by_prompt(records, settings.test_fraction, seed=settings.seed)
    questions = list(dict.fromkeys(record["prompt"] for record in parts[1]))
    say(
        f"{len(parts[0]) // len(STYLES)} questions to train on and {len(questions)} held out, each answered in the "
        f"styles {', '.join(STYLES)}"
    )
    objective = SFT(STYLES, length_normalized=settings.per_token)
    train_rows, test_rows = (
        objective.precompute(model, tokenize_responses(tokenizer, part, STYLES), frozen_layers="auto") for part in parts
    )
    trainer = train(settings, model, objective, train_rows)

    say("Evaluating and answering the held-out questions at every preference …")
    corner = PREFERENCES[:1].to(next(model.parameters()).device)
    with model.disabled(), evaluation_mode(model):
        base = objective.mean_losses(model, test_rows, corner, settings.batch_size)[0].tolist()
    front = trainer.front(PREFERENCES, data=test_rows)
    shares = style_shares(model, tokenizer, questions, settings.samples, settings.seed)
    front = Front(
        preferences=front.preferences,
        values=front.values,
        names=STYLES,
        extra={f"share_{style}": shares[:, i].tolist() for i, style in enumerate(STYLES)},
        metadata={
            **{**asdict(settings), "model": model_name(settings.model), "output": str(settings.output)},
            **front.metadata,
            "base_losses": base,
        },
    )

    model.save_pretrained(settings.output / "adapter")
    for name in ("front.json", "front.csv"):
        front.save(settings.output / name)
    plot_heat_map(front, settings.output / "front.png", title=f"Held-out loss of each style, nats per {settings.unit}")
    show_answers(model, tokenizer, questions[:2], settings.max_new_tokens)
    report(settings, front, len(questions) * settings.samples)
    say(f"Took {cost(started)} after the fetch.")
    say(f"Written to {settings.output}: adapter/, front.json, front.csv, front.png")
    return front


if __name__ == "__main__":
    main()
