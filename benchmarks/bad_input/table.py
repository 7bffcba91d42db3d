"""The counts as a table, and the failures as a list."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.bad_input.outcomes import OUTCOMES

__all__ = ["failures_text", "table"]


def table(counts: Mapping[str, Counter[str]]) -> str:
    """Groups by outcomes, with a last row of sums, in Markdown."""
    total: Counter[str] = sum(counts.values(), Counter())
    lines = [f"| group | cases | {' | '.join(OUTCOMES)} |", "|---|---|" + "---|" * len(OUTCOMES)]
    for group, row in [*counts.items(), ("**all**", total)]:
        cells = [f"{row[outcome]:,}" for outcome in OUTCOMES]
        lines.append(f"| {group} | {row.total():,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def failures_text(examples: list[dict[str, Any]]) -> str:
    """Each kind of failure once: how often, where, and one case of it."""
    ordered = sorted(examples, key=lambda example: (example["outcome"], example["target"], -example["times"]))
    return "".join(
        f"{e['times']:5d} × {e['outcome']}  {e['target']}\n        {e['detail']}\n        at {e['place']}\n        "
        f"{e['case']}\n"
        for e in ordered
    )
