"""The studies of docs/studies.md: a recipe each, a table and a picture each, on bandits whose exact fronts are known.

    python benchmarks/studies.py benchmarks/studies/*.yaml
    python benchmarks/studies.py benchmarks/studies/learning_rate.yaml --seeds 0 --output outputs/studies

A recipe says a question, what varies (``cells``: fields of a cell or of its setting in bandit_study.py; lists are taken
in all combinations), seeds, and how the picture shows it: ``across`` is its horizontal axis, ``lines`` its colours or,
of a heat map, its rows, ``panels`` its figures. Lines are means over seeds, bands go from the smallest to the largest.
Cells append to NAME.jsonl and are not run again; NAME.md and NAME.png are made of all of them. On one CPU the same
recipe and seeds give the same figures.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import seaborn as sns
import torch
import yaml
from bandit_study import SETTINGS, Cell, Setting, key_of, measure, recorded
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mopref.plotting.style import new_figure, save, style

# How each figure is called, its factor, and on what scale it is drawn.
FIGURES = {
    "hypervolume_ratio": ("hypervolume / exact", 1, "linear"),
    "regret": ("regret, in the loss's unit", 1, "log"),
    "regret_share": ("regret, % of the corners' spread", 100, "log"),
    "corner_share": ("regret at corners, %", 100, "log"),
    "worst_share": ("largest regret, %", 100, "log"),
    "held_out_share": ("regret at held-out λ, %", 100, "log"),
    "inside_share": ("regret at λ inside the region, %", 100, "log"),
    "outside_share": ("regret at λ outside it, %", 100, "log"),
    "largest_hole": ("largest hole, in ranges", 1, "linear"),
    "balance": ("where λ = (½, ½) lands: 0 is the best f1, 1 the best f2", 1, "linear"),
    "order": ("order, Spearman's ρ of λ and −f", 1, "linear"),
    "kl": ("KL from the base, nats", 1, "log"),
    "kl_unseen": ("KL at prompts that were not trained on, nats", 1, "log"),
    "untrained_range": ("how far λ moves a reward of no objective", 1, "linear"),
    "clipped": ("share of steps whose gradient was clipped", 1, "linear"),
    "gradient_norm_end": ("gradient's norm at the end", 1, "log"),
    "trained_parameters": ("numbers that are trained", 1, "log"),
    "loss_end": ("training loss at the end", 1, "linear"),
}

_MOST_COLUMNS = 3
# A range of a logarithmic axis up to which its powers of ten alone are too few numbers.
_FEW = 1e3


@dataclass(frozen=True)
class Picture:
    """How a study is drawn.

    Args:
        across: the varied field on the horizontal axis.
        panels: names in ``FIGURES``.
        lines: a second varied field: a line for each of its values; of a heat map, a row.
        scale: of the horizontal axis, "linear", "log" or "names".
        kind: "lines" or "heat".
    """

    across: str
    panels: tuple[str, ...]
    lines: str | None = None
    scale: str = "linear"
    kind: str = "lines"


@dataclass(frozen=True)
class Study:
    """A question, the cells that answer it, and their picture."""

    name: str
    question: str
    setting: str
    cells: dict[str, list[Any]]
    seeds: list[int]
    picture: Picture

    def varied(self) -> list[str]:
        """The fields with more values than one, in the recipe's order."""
        return [name for name, values in self.cells.items() if len(values) > 1]

    def made(self, seeds: list[int] | None = None) -> list[tuple[dict[str, Any], Cell]]:
        """All cells with the values of what varies."""
        found = []
        for values in product(*self.cells.values()):
            changes = dict(zip(self.cells, values, strict=True))
            shown = {name: changes[name] for name in self.varied()}
            own = {name: changes.pop(name) for name in list(changes) if name in _names(Setting)}
            plain = {"bed": "rewards", "scalarizer": "linear", "objectives": 2, "training_preferences": 0, **changes}
            for seed in self.seeds if seeds is None else seeds:
                found.append((shown, Cell(seed=seed, setting=replace(SETTINGS[self.setting], **own), **plain)))
        return found


def load(path: Path) -> Study:
    """A study from its recipe.

    Raises:
        SystemExit: a field that no cell has, or a figure that is not measured.
    """
    tree = yaml.safe_load(path.read_text())
    cells = {name: values if isinstance(values, list) else [values] for name, values in tree["cells"].items()}
    setting = cells.pop("setting", ["ours"])[0]
    known = _names(Setting) | _names(Cell) - {"setting", "seed"}
    picture = Picture(**{**tree["picture"], "panels": tuple(tree["picture"]["panels"])})
    for name, among in [*((name, known) for name in cells), *((name, FIGURES.keys()) for name in picture.panels)]:
        if name not in among:
            raise SystemExit(f"{path}: {name!r} is none of {', '.join(sorted(among))}.")
    for name in filter(None, (picture.across, picture.lines)):
        if len(cells.get(name, [])) < 2:
            raise SystemExit(f"{path}: the picture shows {name!r}, of which cells give no two values.")
    return Study(path.stem, tree["question"], setting, cells, tree["seeds"], picture)


def _names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


def run(study: Study, folder: Path, seeds: list[int] | None = None) -> pd.DataFrame:
    """A row for each cell: what varies, its seed, and the figures; cells that are not recorded are run first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study.name}.jsonl"
    done, rows = recorded(path), []
    for shown, cell in study.made(seeds):
        key = key_of(asdict(cell))
        if key not in done:
            done[key] = {"cell": asdict(cell), "result": measure(cell)}
            with path.open("a") as file:
                file.write(json.dumps(done[key]) + "\n")
        result = done[key]["result"]
        figures = {name: factor * result[name] for name, (_, factor, _) in FIGURES.items() if _is_known(result, name)}
        rows.append({**shown, "seed": cell.seed, **figures})
    return pd.DataFrame(rows)


def _is_known(result: dict[str, Any], name: str) -> bool:
    return result.get(name) is not None and math.isfinite(result[name])


def table(study: Study, frame: pd.DataFrame) -> str:
    """Means over seeds of the picture's figures, with the smallest and the largest."""
    varied, panels = study.varied(), [name for name in study.picture.panels if name in frame]
    head = [*varied, *(FIGURES[name][0] for name in panels)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for values, group in frame.groupby(varied, sort=False):
        own = [_told(list(group[name].dropna())) for name in panels]
        lines.append(f"| {' | '.join([*map(_short, values), *own])} |")
    return "\n".join(lines)


def _told(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ({_short(min(values))} … {_short(max(values))})" if len(values) > 1 else ""
    return f"{_short(mean(values))}{spread}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(study: Study, frame: pd.DataFrame, path: Path) -> None:
    """A panel for each figure."""
    picture = study.picture
    panels = [name for name in picture.panels if name in frame and frame[name].notna().any()]
    with style():
        columns = 2 if len(panels) == 4 else min(len(panels), _MOST_COLUMNS)
        rows = math.ceil(len(panels) / columns)
        figure = new_figure(5.2 * columns, 4.2 * rows)
        figure.suptitle(study.question)
        all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in all_axes[len(panels) :]:
            axes.set_visible(False)
        for place, (axes, name) in enumerate(zip(all_axes, panels, strict=False)):
            if picture.kind == "heat":
                _draw_heat(axes, study, frame, name)
            else:
                _draw_lines(axes, study, frame, name, with_legend=place == 0)
        save(figure, path)


def _draw_lines(axes: Axes, study: Study, frame: pd.DataFrame, name: str, with_legend: bool) -> None:
    picture, (label, _, scale) = study.picture, FIGURES[name]
    shown = frame.copy()
    if picture.scale == "names":
        shown[picture.across] = shown[picture.across].astype(str)
    hue = shown[picture.lines].astype(str) if picture.lines else None
    sns.lineplot(
        x=shown[picture.across],
        y=shown[name],
        hue=hue,
        style=hue,
        markers=True,
        dashes=False,
        errorbar=("pi", 100),
        palette="viridis" if picture.lines else None,
        legend="full" if picture.lines and with_legend else False,
        marker=None if picture.lines else "o",
        ax=axes,
    )
    if picture.scale == "log":
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
    if scale == "log" and (shown[name].dropna() > 0).all():
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)
    axes.set(title=label, ylabel="", xlabel=picture.across.replace("_", " "))
    if picture.lines and with_legend:
        axes.get_legend().set_title(picture.lines.replace("_", " "))


def _plain_numbers(axis: Axis) -> None:
    """0.01 in place of a power of ten, and more than powers where there are few of them."""
    low, high = axis.get_view_interval()
    subs = (1.0,) if high / low > _FEW else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axis.set_minor_formatter(NullFormatter())


def _draw_heat(axes: Axes, study: Study, frame: pd.DataFrame, name: str) -> None:
    picture = study.picture
    assert picture.lines is not None
    means = frame.pivot_table(index=picture.lines, columns=picture.across, values=name, sort=False)
    sns.heatmap(means, annot=True, fmt=".3g", cmap="viridis", cbar=False, ax=axes)
    axes.set(title=FIGURES[name][0], xlabel=picture.across.replace("_", " "), ylabel=picture.lines.replace("_", " "))


def main(words: list[str] | None = None) -> None:
    """Run the studies, and write their tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, help="in place of the recipe's")
    parser.add_argument("--output", type=Path, default=Path("outputs/studies"))
    options = parser.parse_args(words)
    for study in [load(path) for path in options.recipes]:
        frame = run(study, options.output, options.seeds)
        text = table(study, frame)
        (options.output / f"{study.name}.md").write_text(text + "\n")
        draw(study, frame, options.output / f"{study.name}.png")
        print(f"\n{study.name}: {study.question}\n\n{text}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
