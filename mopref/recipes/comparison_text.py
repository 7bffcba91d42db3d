"""A comparison as plain text: a line a run, values side by side, and the settings that differ."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mopref._terminal import visible_line
from mopref.argument_kinds import checks_arguments
from mopref.front.intervals import interval_level
from mopref.front.table import convention_lines, table_lines
from mopref.recipes.comparison import Comparison, RunFigures
from mopref.recipes.front_table import number_text

__all__ = ["comparison_text"]

_EMPTY = "–"
_INDICATORS = {
    "inner_product": "inner product ↑",
    "regret_mean": "regret mean ↓",
    "regret_max": "regret max ↓",
    "cross_angle": "cross angle ↓",
}
# Settings with a longer value stand below their table.
_LONGEST = 60


@checks_arguments
def comparison_text(comparison: Comparison) -> str:
    """All of a comparison as plain text without escape codes, never cut.

    Warnings come first, each on a line of its own; then a table with a line a run; the values of each run at every
    shared preference, a table an objective, with the differences to the first run in brackets; and the settings in
    which the recipes differ.
    """
    sections = [
        [f"WARNING: {sentence}" for sentence in comparison.warnings],
        [*convention_lines(comparison.runs[0].front.convention), *_run_lines(comparison)],
        *_shared_sections(comparison),
        _setting_lines(comparison),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _run_lines(comparison: Comparison) -> list[str]:
    figures = comparison.figures
    has_bounds = any(own.hypervolume_interval for own in figures)
    columns: list[tuple[str, Sequence[Any]]] = [
        ("run", [run.name for run in comparison.runs]),
        ("hypervolume ↑", _volumes(figures)),
        ("points", [own.points for own in figures]),
        ("non-dominated", [own.non_dominated for own in figures]),
    ]
    labels = {name: _INDICATORS[name] for name in figures[0].indicators}
    columns += [(label, [own.indicators[name] for own in figures]) for name, label in labels.items()]
    for objective, arrow in enumerate(_arrows(comparison)):
        columns.append((f"best {arrow}", [float(own.best[objective]) for own in figures]))
    columns.append(("share of union", [f"{own.share_of_union:.0%}" for own in figures]))
    if figures[0].coverage is not None:
        columns.append(("covers other", [f"{own.coverage:.0%}" for own in figures]))
    lines = table_lines(
        [head for head, _ in columns],
        [np.array(column) for _, column in columns],
        dominated=np.zeros(len(figures), dtype=bool),
    )
    return [*lines, *_notes(comparison, has_bounds)]


def _volumes(figures: Sequence[RunFigures]) -> list[str]:
    """Hypervolumes with their intervals, in as many digits as tell them apart."""
    like = [own.hypervolume for own in figures]
    texts = []
    for own in figures:
        bounds = [number_text(bound, like) for bound in own.hypervolume_interval or ()]
        texts.append(number_text(own.hypervolume, like) + (f" [{', '.join(bounds)}]" if bounds else ""))
    return texts


def _notes(comparison: Comparison, has_bounds: bool) -> Iterator[str]:
    """What the columns of the first table mean."""
    point = ", ".join(f"{number:g}" for number in comparison.reference_point)
    approximate = [run.name for run, own in _pairs(comparison) if not own.hypervolume_exact]
    how = f"; approximate for {', '.join(approximate)}" if approximate else ""
    yield f"hypervolume     under the reference point ({point}){how}"
    if has_bounds:
        levels = {
            interval_level(run.front.metadata): run.name for run, own in _pairs(comparison) if own.hypervolume_interval
        }
        told = ", ".join("of a level not recorded" if level is None else f"{100 * level:g} %" for level in levels)
        yield f"[low, high]     interval ({told}), bootstrap over prompts"
    yield "share of union  of the distinct points of all runs together that no other dominates; copies count for each"
    if comparison.figures[0].coverage is not None:
        yield "covers other    share of the other run's points that a point of this run equals or beats in everything"


def _shared_sections(comparison: Comparison) -> list[list[str]]:
    """A table of each objective at the preferences that all fronts share."""
    shared, front = comparison.shared, comparison.runs[0].front
    if not shared:
        return [["No preference is in all fronts, so no values stand side by side."]]
    names = [run.name for run in comparison.runs]
    weights = np.array([point.preference for point in shared])
    sections = []
    for objective, arrow in enumerate(_arrows(comparison)):
        values = np.array([point.values[:, objective] for point in shared])
        differences = np.array([point.differences[:, objective] for point in shared])
        like = np.abs(values).ravel().tolist()
        columns = [[f"{weight:.3g}" for weight in column] for column in weights.T.tolist()]
        for place, (own, to_first) in enumerate(zip(values.T.tolist(), differences.T.tolist(), strict=True)):
            texts = [number_text(value, like) for value in own]
            if place:
                signs = ["-" if difference < 0 else "+" for difference in to_first]
                sizes = [number_text(abs(difference), like) for difference in to_first]
                texts = [f"{text} ({sign}{size})" for text, sign, size in zip(texts, signs, sizes, strict=True)]
            columns.append(texts)
        heads = [*(f"λ {visible_line(name)}" for name in front.names), *names]
        lines = table_lines(heads, [np.array(column) for column in columns], dominated=np.zeros(len(shared), bool))
        sections.append([f"{arrow} at the preferences of all fronts (in brackets: minus {names[0]})", *lines])
    return sections


def _setting_lines(comparison: Comparison) -> list[str]:
    """The settings that differ, short ones as a table."""
    missing = [run.name for run in comparison.runs if run.settings is None]
    lines = [f"No recipe is recorded of {', '.join(missing)}."] if missing else []
    runs = [run.name for run in comparison.runs if run.settings is not None]
    if len(runs) < 2:
        return lines
    if not comparison.settings:
        return [*lines, "The recipes do not differ."]
    rows = {
        visible_line(key): [_value(values[run]) if run in values else _EMPTY for run in runs]
        for key, values in comparison.settings.items()
    }
    short = {key: texts for key, texts in rows.items() if max(map(len, texts)) <= _LONGEST}
    lines.append("Settings that differ")
    if short:
        columns = [list(short), *zip(*short.values(), strict=True)]
        heads = ["setting", *runs]
        lines += table_lines(heads, [np.array(c) for c in columns], dominated=np.zeros(len(short), dtype=bool))
    for key, texts in rows.items():
        if key not in short:
            lines.append(f"{key}:")
            lines += [f"  {run}: {text}" for run, text in zip(runs, texts, strict=True)]
    return lines


def _pairs(comparison: Comparison) -> list[tuple[Any, Any]]:
    return list(zip(comparison.runs, comparison.figures, strict=True))


def _arrows(comparison: Comparison) -> list[str]:
    """The objectives with an arrow to where they get better."""
    front = comparison.runs[0].front
    return [
        f"{visible_line(name)} {'↑' if flag else '↓'}"
        for name, flag in zip(front.names, front.is_maximized(), strict=True)
    ]


def _value(value: Any) -> str:
    return visible_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
