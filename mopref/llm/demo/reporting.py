"""What the examples print: answers at preferences, time and memory."""

import sys
import textwrap
import time
from collections.abc import Sequence

from rich.console import Console
from torch import nn

from mopref._terminal import visible, visible_line
from mopref.llm.policy.generation import Answer

__all__ = ["cost", "precision_of", "preference_text", "print_answer", "say"]

_console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line, in which rich's markup such as ``[bold]`` works."""
    _console.print(visible(text))


def print_answer(answer: Answer, label: str) -> None:
    """Print an answer, indented, behind what it is the answer of."""
    _console.print(f"  {visible_line(label)} ({answer.num_tokens} tokens)")
    lines = [textwrap.fill(line, 100) for line in visible(answer.text).split("\n")]
    # The text is the model's own, and may hold what would be markup, or would order the terminal about.
    _console.print(textwrap.indent("\n".join(lines), "    "), markup=False)


def preference_text(names: Sequence[str], preference: Sequence[float]) -> str:
    """A preference in words, such as "helpful 0.25, harmless 0.75"."""
    return ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, preference, strict=True))


def precision_of(model: nn.Module) -> str:
    """The type of the model's own weights, such as "float32", which a front says it was measured in."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def cost(start: float) -> str:
    """Minutes since ``time.monotonic()`` was ``start``, and the most memory this process has held."""
    minutes = f"{(time.monotonic() - start) / 60:.1f} min"
    try:
        import resource
    except ImportError:  # Windows
        return minutes
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{minutes}; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**3:.1f} GiB"
