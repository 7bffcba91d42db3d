"""A comparison of methods as JSON, CSV and Markdown; every number with λ, seed and reference point."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mopref._terminal import visible_line
from mopref.baselines import METHODS
from mopref.front.files import to_csv
from mopref.recipes.method_statistics import Gap, HeldOut, MethodFigures

__all__ = ["csv_text", "json_text", "markdown_text"]

_BUDGET = {
    "runs": "runs",
    "steps": "steps",
    "forwards": "forwards",
    "generated_tokens": "tokens generated",
    "trained_parameters": "parameters trained",
    "stored_parameters": "parameters stored",
    "passes_per_token": "passes a token",
    "seconds": "seconds",
}
_SHOWN = {
    "hypervolume": "hypervolume ↑",
    "inner_product": "inner product ↑",
    "largest_hole": "largest hole ↓",
    "order_correlation": "order ↑",
}


def json_text(methods: Sequence[MethodFigures], held_out: HeldOut, about: dict[str, Any]) -> str:
    """Everything, as JSON; a number that is not known is null."""
    names = held_out.names

    def named(numbers: Any) -> dict[str, float]:
        return dict(zip(names, np.asarray(numbers).tolist(), strict=True))

    tree = {
        **about,
        "objectives": list(names),
        "minimised": True,
        "reference_point": named(held_out.reference_point),
        "interval_level": held_out.interval_level,
        "resamples": held_out.resamples,
        "preferences": [named(row) for row in held_out.preferences],
        "methods": [
            {
                "method": own.method,
                "title": METHODS[own.method].title,
                "is_control": METHODS[own.method].is_control,
                **{figure: own.mean(figure) for figure in _SHOWN},
                "gaps_to_ours": {figure: vars(gap) for figure, gap in own.gaps.items()},
                "budget": vars(own.budget),
                "notes": dict(own.notes),
                "seeds": [
                    {
                        "seed": seed.seed,
                        **{figure: getattr(seed, figure) for figure in _SHOWN},
                        "points": [
                            {
                                "preference": named(preference),
                                "losses": named(values),
                                **{name: column[place] for name, column in seed.columns.items()},
                            }
                            for place, (preference, values) in enumerate(
                                zip(held_out.preferences, seed.values, strict=True)
                            )
                        ],
                    }
                    for seed in own.seeds
                ],
            }
            for own in methods
        ],
    }
    return json.dumps(_known(tree), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _known(value: Any) -> Any:
    """The same with null for numbers that are none."""
    if isinstance(value, dict):
        return {key: _known(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_known(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def csv_text(methods: Sequence[MethodFigures], held_out: HeldOut) -> str:
    """A line for each method, seed and preference."""
    places = range(len(held_out.preferences))
    lines = [(own, seed, place) for own in methods for seed in own.seeds for place in places]
    columns: list[tuple[str, list[Any]]] = [
        ("method", [own.method for own, _, _ in lines]),
        ("seed", [seed.seed for _, seed, _ in lines]),
    ]
    for number, name in enumerate(held_out.names):
        weights = [float(held_out.preferences[place, number]) for _, _, place in lines]
        columns.append((f"preference_{name}", weights))
    for number, name in enumerate(held_out.names):
        columns.append((name, [float(seed.values[place, number]) for _, seed, place in lines]))
    for name in dict.fromkeys(name for _, seed, _ in lines for name in seed.columns):
        known = [float(seed.columns[name][place]) if name in seed.columns else math.nan for _, seed, place in lines]
        columns.append((name, known))
    for number, name in enumerate(held_out.names):
        columns.append((f"reference_point_{name}", [float(held_out.reference_point[number])] * len(lines)))
    columns.append(("hypervolume", [seed.hypervolume for _, seed, _ in lines]))
    return to_csv([name for name, _ in columns], [np.array(column) for _, column in columns])


def markdown_text(methods: Sequence[MethodFigures], held_out: HeldOut, about: dict[str, Any]) -> str:
    """Tables of figures, gaps, budgets and losses, and what their columns mean."""
    names = ", ".join(map(_cell, held_out.names))
    point = ", ".join(f"{number:g}" for number in held_out.reference_point)
    seeds = ", ".join(str(seed.seed) for seed in methods[0].seeds)
    level = f"{100 * held_out.interval_level:g} %"
    parts = [
        "# Methods side by side",
        f"Held-out losses of {names} (lower is better) on {_rows_text(held_out)}; λ at {len(held_out.preferences)} "
        f"points; seeds {seeds}; hypervolumes under the reference point ({point}), fixed before; precision "
        f"{about.get('precision', 'not recorded')}.{_nothing_below_text(methods)}",
        *_figure_parts(methods, level, held_out),
        *_budget_parts(methods),
        *_loss_parts(methods, held_out),
    ]
    return "\n\n".join(parts) + "\n"


def _rows_text(held_out: HeldOut) -> str:
    """How many rows there are, and how many of them each objective has a label on, where not all have."""
    labelled = np.asarray(held_out.labelled)
    text = f"{len(labelled)} rows of {len(set(held_out.units))} prompts"
    if labelled.all():
        return text
    counts = zip(held_out.names, labelled.sum(axis=0).tolist(), strict=True)
    return f"{text} ({', '.join(f'{_cell(name)}: {count}' for name, count in counts)})"


def _figure_parts(methods: Sequence[MethodFigures], level: str, held_out: HeldOut) -> Iterator[str]:
    yield "## Figures, means over seeds"
    heads = ["method", *_SHOWN.values(), "gap in hypervolume", "p (Holm)", "gap in inner product", "p (Holm)"]
    yield _table(heads, ([_title(own), *_means(own), *_gap_cells(own)] for own in methods))
    yield (
        f"Gaps are a method's figure less ours, with the interval ({level}) of a paired bootstrap over prompts "
        f"({held_out.resamples} resamples{_fewer_text(methods, held_out.resamples)}) and p corrected by Holm over the "
        f"other rows, for each figure apart. Intervals are not corrected, and seeds are taken as they are. With a few "
        "dozen prompts such intervals are somewhat narrow, and small p smaller than they should be."
        f"{_lowest_p_text(methods)} A hypervolume is of the points whatever λ they were asked for with, so that "
        "shuffled λ leave it as it is and it is not tested: the inner product tells. Order: Spearman's ρ of λ_i and "
        "−loss i. A hole is in the losses' own units; a front that has collapsed has none, so read it beside the "
        "hypervolume."
    )


def _means(own: MethodFigures) -> list[str]:
    return [_number(own.mean(figure)) for figure in _SHOWN]


def _gap_cells(own: MethodFigures) -> list[str]:
    cells = []
    for figure in ("hypervolume", "inner_product"):
        gap = own.gaps.get(figure)
        if gap is None:
            cells += ["–", "–"]
        else:
            cells += [_gap_text(gap), _number(gap.p_holm, 3)]
    return cells


def _gap_text(gap: Gap) -> str:
    is_known = math.isfinite(gap.low) and math.isfinite(gap.high)
    interval = f" [{gap.low:+.4f}, {gap.high:+.4f}]" if is_known else ", no interval"
    return f"{gap.value:+.4f}{interval}"


def _nothing_below_text(methods: Sequence[MethodFigures]) -> str:
    """That hypervolumes tell nothing, where they do not."""
    if any(seed.hypervolume > 0 for own in methods for seed in own.seeds):
        return ""
    return " **No point of any method is better than the reference point, so that hypervolumes tell nothing here.**"


def _fewer_text(methods: Sequence[MethodFigures], resamples: int) -> str:
    """That gaps rest on fewer resamples, where they do: some leave an objective without a labelled row."""
    told = []
    for figure, name in (("hypervolume", "hypervolumes"), ("inner_product", "inner products")):
        fewest = min((own.gaps[figure].resamples for own in methods if own.gaps), default=resamples)
        if fewest not in (0, resamples):
            told.append(f"of {name} {fewest}")
    return "".join(f", {one}" for one in told)


def _lowest_p_text(methods: Sequence[MethodFigures]) -> str:
    """How low p can be at all: 2/(R + 1) with R resamples, times as many rows as are tested."""
    floors = []
    for figure in ("hypervolume", "inner_product"):
        tested = [own.gaps[figure].resamples for own in methods if own.gaps and math.isfinite(own.gaps[figure].p)]
        if tested:
            floors.append((min(1.0, 2 / (max(tested) + 1) * len(tested)), max(tested), len(tested)))
    if not floors or min(floors)[0] < 0.0005:  # The table's digits show nothing of it.
        return ""
    lowest, resamples, count = min(floors)
    rows = f"{count} row" if count == 1 else f"{count} rows"
    return f" With {resamples} resamples and {rows} no p is below {_number(lowest, 3)}."


def _budget_parts(methods: Sequence[MethodFigures]) -> Iterator[str]:
    yield "## Budgets, of one seed"
    rows = ([_title(own), *(_budget(getattr(own.budget, name)) for name in _BUDGET)] for own in methods)
    yield _table(["method", *_BUDGET.values()], rows)
    yield (
        "Each as if nothing were shared with another method. Forwards are calls of the network for trainings, "
        "the margins' of MODPO and the directions' of activation addition among them, but not those of the reference, "
        "which is computed once for all; seconds are those of the trainings."
    )


def _loss_parts(methods: Sequence[MethodFigures], held_out: HeldOut) -> Iterator[str]:
    yield "## Losses at each λ, means over seeds"
    heads = ["method", *(_preference(row) for row in held_out.preferences)]
    rows = []
    for own in methods:
        values = np.mean([seed.values for seed in own.seeds], axis=0)
        rows.append([_title(own), *(" / ".join(f"{number:.4f}" for number in row) for row in values)])
    yield _table(heads, rows)
    for name in dict.fromkeys(name for own in methods for seed in own.seeds for name in seed.columns):
        if name.endswith(("_low", "_high")):
            continue
        yield f"### {_cell(name)}"
        rows = []
        for own in methods:
            known = [seed.columns[name] for seed in own.seeds if name in seed.columns]
            if known:
                rows.append([_title(own), *(_number(number) for number in np.mean(known, axis=0))])
        yield _table(heads, rows)


def _title(own: MethodFigures) -> str:
    return METHODS[own.method].title


def _preference(row: Any) -> str:
    return "λ = " + ", ".join(f"{weight:.3g}" for weight in row)


def _number(number: float, digits: int = 4) -> str:
    return f"{number:.{digits}f}" if math.isfinite(number) else "–"


def _budget(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}" if number == int(number) else f"{number:.1f}"


def _cell(text: str) -> str:
    return visible_line(text).replace("|", "\\|")


def _table(heads: Sequence[str], rows: Any) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
