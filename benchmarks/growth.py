"""How do the time and the peak memory of a DPO step grow with what there is more of?

    python benchmarks/growth.py --json outputs/growth.json --figure outputs/growth.png

One size is raised at a time: the objectives m (adapters of the same total rank), the pairs in a step, the tokens of a
sequence, the adapters' rank, the vocabulary. All sizes of an axis take turns, each in a process of its own, as in
dpo_step.py. Time is the processor's, since other work on a machine slows the clock's. The exponent is the slope of a
line through the logarithms of all sizes: 0 for what does not grow, 1 for what grows in proportion; at small sizes what
is constant, such as Python's part, pulls it down.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from step_parts import Setting
from step_workers import Worker, take_turns

_BASE = Setting(
    vocabulary=4096,
    layers=2,
    hidden=128,
    intermediate=352,
    heads=4,
    key_value_heads=4,
    pairs=8,
    prompt=(64, 64),
    response=(64, 64),
    rank=32,
)
AXES: dict[str, tuple[int, ...]] = {
    "objectives": (1, 2, 4, 8, 16, 32),
    "pairs": (4, 8, 16, 32, 64),
    "tokens": (64, 128, 256, 512, 1024),
    "rank": (8, 16, 32, 64, 128),
    "vocabulary": (4096, 8192, 16384, 32768, 65536),
}
_QUICK = replace(_BASE, vocabulary=64, layers=1, hidden=16, intermediate=32, heads=2, key_value_heads=2, pairs=2)
# What a picture says of each, and in what unit.
_QUANTITIES = {"seconds": ("processor seconds a step", 1.0), "peak_bytes": ("peak memory, MB", 2.0**20)}


class Point(NamedTuple):
    """One size of one axis, measured."""

    axis: str
    size: int
    seconds: float
    peak_bytes: float


def at(base: Setting, axis: str, size: int) -> tuple[str, Setting]:
    """The variant and the setting of a size on an axis."""
    if axis == "objectives":
        return f"mopref-{size}", base
    if axis == "tokens":
        half = (size // 2, size // 2)
        return "mopref-2", replace(base, prompt=half, response=half)
    return "mopref-2", replace(base, **{axis: size})


def measure(base: Setting, axis: str, sizes: Sequence[int], threads: int) -> list[Point]:
    """Medians of every size, without the first turn, which warms up."""
    workers = [Worker(*at(base, axis, size), threads) for size in sizes]
    steps = take_turns(workers, base.steps)
    return [
        Point(axis, size, statistics.median(step["processor"] for step in own[1:]), max(step["peak"] for step in own))
        for size, own in zip(sizes, steps, strict=True)
    ]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log(value) over log(size), by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def exponents(points: Sequence[Point]) -> dict[str, dict[str, float]]:
    """For each axis the exponents of time and of memory."""
    return {
        axis: {
            quantity: exponent([point.size for point in own], [getattr(point, quantity) for point in own])
            for quantity in _QUANTITIES
        }
        for axis in dict.fromkeys(point.axis for point in points)
        if (own := [point for point in points if point.axis == axis])
    }


def draw(points: Sequence[Point], slopes: dict[str, dict[str, float]], path: Path) -> None:
    """A row of pictures for time and one for memory, a column for each axis; both scales logarithmic."""
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(3.2 * len(slopes), 6), layout="constrained")
        panels = figure.subplots(len(_QUANTITIES), len(slopes), sharey="row", squeeze=False)
    for column, axis in enumerate(slopes):
        own = [point for point in points if point.axis == axis]
        sizes = [point.size for point in own]
        for panel, (quantity, (label, unit)) in zip(panels[:, column], _QUANTITIES.items(), strict=True):
            sns.lineplot(x=sizes, y=[getattr(point, quantity) / unit for point in own], marker="o", ax=panel)
            panel.set(xscale="log", yscale="log", xlabel=axis, ylabel=label)
            panel.set_xticks(sizes, labels=[str(size) for size in sizes])
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:g}")
            for ticks in (panel.xaxis, panel.yaxis):
                ticks.set_minor_locator(NullLocator())
            panel.set_title(f"exponent {slopes[axis][quantity]:.2f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every axis; print a table, write the figures and the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES), help="(default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a model of one small block, and two sizes of each axis")
    parser.add_argument("--figure", type=Path, help="a picture of all axes")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    given = parser.parse_args(arguments)
    base = replace(_QUICK if given.quick else _BASE, steps=given.repeats + 1)
    points: list[Point] = []
    print(f"{'':<12}{'size':>8}{'s / step':>10}{'peak, MB':>10}")
    for axis in given.axes:
        for point in measure(base, axis, AXES[axis][:2] if given.quick else AXES[axis], given.threads):
            print(f"{point.axis:<12}{point.size:>8}{point.seconds:>10.4f}{point.peak_bytes / 2**20:>10.1f}", flush=True)
            points.append(point)
    slopes = exponents(points)
    for axis, own in slopes.items():
        print(f"{axis}: time grows with exponent {own['seconds']:.2f}, memory with {own['peak_bytes']:.2f}")
    if given.figure is not None:
        draw(points, slopes, given.figure)
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        numbers: dict[str, Any] = {"points": [point._asdict() for point in points], "exponents": slopes}
        given.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
