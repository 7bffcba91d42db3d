"""``mopref generate``: answers at one preference or at several."""

import sys
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser
from torch import Tensor

from mopref._terminal import visible, visible_line
from mopref.cli.arguments import command_parser, named_preferences, parsed
from mopref.cli.output import show
from mopref.llm.demo.reporting import preference_text
from mopref.llm.policy import Answer
from mopref.preferences import simplex_lattice
from mopref.recipes import open_run
from mopref.recipes.answers import answers_at

__all__ = ["parser", "run"]

_DESCRIPTION = """Answer prompts with the model of a run, at one preference or at several side by side.

  mopref generate runs/latest --preference "helpful=.7,harmless=.3" "How do I sleep better?"
  mopref generate runs/latest --preference "helpful=1,harmless=0" --preference "helpful=0,harmless=1" "Tell me a joke."

Reads the run's folder, and the model that its recipe names. Writes nothing but what it prints."""


def parser() -> ArgumentParser:
    """The command's parser."""
    made = command_parser("generate", "RUN [--preference NAME=WEIGHT,… …] [--max-new-tokens N] PROMPT …", _DESCRIPTION)
    made.add_argument("folder", metavar="RUN", help="the folder of a run")
    made.add_argument("prompts", metavar="PROMPT", nargs="+", help="what is asked")
    made.add_argument(
        "--preference", action="append", default=[], help="a weight for each objective; without any, corners and middle"
    )
    made.add_argument("--max-new-tokens", type=int, default=128, help="most tokens of an answer")
    return made


def run(arguments: Sequence[str]) -> None:
    """Run the command."""
    given = parsed(parser(), arguments)
    opened = open_run(given.folder)
    names = opened.recipe.objectives
    if given.preference:
        preferences = named_preferences(given.preference, names)
    else:
        preferences = _corners_and_middle(len(names))
    answers = answers_at(opened, given.prompts, preferences, given.max_new_tokens)
    _show(given.prompts, names, preferences, answers)


def _corners_and_middle(count: int) -> Tensor:
    corners = simplex_lattice(count, count)
    middle = corners.mean(dim=0, keepdim=True)
    return middle if count == 1 else corners.new_tensor([*corners.tolist(), *middle.tolist()])


def _show(
    prompts: Sequence[str], names: Sequence[str], preferences: Tensor, answers: Sequence[Sequence[Answer]]
) -> None:
    labels = [visible_line(preference_text(names, preference)) for preference in preferences.tolist()]
    if sys.stdout.isatty():
        _show_table(prompts, labels, answers)
        return
    for number, prompt in enumerate(prompts):
        show(prompt)
        for label, of_point in zip(labels, answers, strict=True):
            show(f"  λ: {label} ({of_point[number].num_tokens} tokens)")
            show("\n".join(f"    {line}" for line in of_point[number].text.splitlines() or [""]))


def _show_table(prompts: Sequence[str], labels: Sequence[str], answers: Sequence[Sequence[Answer]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table: Any = Table("prompt", show_lines=True)
    for label in labels:
        table.add_column(Text(f"λ: {label}"))
    for number, prompt in enumerate(prompts):
        # A text is the model's own, and may hold what would be markup, or would order the terminal about.
        table.add_row(*map(Text, map(visible, [prompt, *(of_point[number].text for of_point in answers)])))
    Console().print(table)
