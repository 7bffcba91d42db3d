"""Fronts: made, measured, saved and loaded, and drawn."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import mopref
from benchmarks.bad_input.outcomes import Nonsense
from benchmarks.bad_input.target import Target, options_of
from mopref import plotting
from mopref.scalarizers import Linear, Tchebycheff

__all__ = ["TARGETS", "front"]

_GROUP = "fronts"
_PLOTS = "plots"


def _arguments() -> dict[str, Any]:
    weights = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    return {
        "preferences": weights,
        "values": 1 - weights,
        "names": ["a", "b"],
        "maximize": False,
        "extra": {"kl": [0.1, None, 0.3], "note": ["x", "y", "z"]},
        "metadata": {"seed": 0, "reference_point": [2.0, 2.0]},
        "convention": "importance",
    }


def front() -> mopref.Front:
    """A front of three points."""
    return mopref.Front(**_arguments())


def _made(**options: Any) -> Any:
    made = mopref.Front(**options)
    repr(made), made.summary(), made.to_frame(), made.non_dominated()
    made.save("front.json")
    made.save("front.csv")
    again = mopref.Front.load("front.json")
    if not np.array_equal(again.values, made.values) or again.names != made.names:
        raise Nonsense("the front that was loaded is another than the one that was saved")
    if not np.array_equal(mopref.Front.load("front.csv", maximize=made.maximize).values, made.values):
        raise Nonsense("the table that was loaded holds other values than the front that was saved")
    return made


def _method(name: str) -> Any:
    return lambda **options: getattr(front(), name)(**options)


def _loaded(content: Any) -> Any:
    try:
        text = json.dumps(content, default=repr, skipkeys=True)
    except RecursionError:
        text = "[" * 5000
    Path("front.json").write_text(text)
    return mopref.Front.load("front.json")


def _content() -> dict[str, Any]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "front.json"
        front().save(path)
        return {"content": json.loads(path.read_text())}


def _drawn(function: Any) -> Any:
    def call(**options: Any) -> None:
        from matplotlib import pyplot

        try:
            function(**options)
        finally:
            pyplot.close("all")

    return call


def _history() -> list[dict[str, Any]]:
    return [
        {"step": step, "loss": 1 / step, "loss/a": 1.0, "learning_rate": 0.1, "hypervolume": 0.5} for step in (1, 2)
    ]


_PLOT_ARGUMENTS = {
    "plot_calibration": lambda: {"front": front(), "best_values": None, "improves": None},
    "plot_comparison": lambda: {"fronts": {"one": front(), "two": front()}, "reference_point": [2.0, 2.0]},
    "plot_gaps": lambda: {"gaps": {"one": [0.5, 0.25, 0.75]}, "label": "difference", "level": 0.9},
    "plot_front": lambda: {"front": front(), "true_front": [[0.0, 0.5], [0.5, 0.0]], "reference_point": [2.0, 2.0]},
    "plot_heat_map": lambda: {"front": front()},
    "plot_hypervolume": lambda: {"runs": {"one": _history()}, "limits": {"best": 1.0}},
    "plot_training": lambda: {"history": _history()},
}

TARGETS = [
    Target("mopref.front.Front", _GROUP, _made, _arguments, weight=5, covers=("mopref.Front",)),
    Target("mopref.front.Front.load", _GROUP, _loaded, _content, weight=3),
    Target(
        "mopref.front.Front.load",
        _GROUP,
        mopref.Front.load,
        lambda: {"path": "front.csv", "maximize": False},
        stage=lambda folder: front().save(folder / "front.csv"),
    ),
    *(
        Target(f"mopref.front.Front.{name}", _GROUP, _method(name), arguments, writes=name == "save")
        for name, arguments in (
            ("save", lambda: {"path": "front.csv"}),
            ("hypervolume", lambda: {"reference_point": [2.0, 2.0]}),
            ("indicators", lambda: options_of(front().indicators)),
            ("regret", lambda: options_of(front().regret, scalarizer=Linear())),
            ("cross_angle", lambda: options_of(front().cross_angle, scalarizer=Tchebycheff([-0.1, -0.1]))),
            ("is_collapsed", lambda: options_of(front().is_collapsed)),
            ("summary", lambda: options_of(front().summary)),
        )
    ),
    *(
        Target(
            f"mopref.plotting.{name}",
            _PLOTS,
            _drawn(getattr(plotting, name)),
            lambda name=name, right=right: options_of(getattr(plotting, name), **{"path": "plot.png", **right()}),
            weight=0.15,
            writes=True,
        )
        for name, right in _PLOT_ARGUMENTS.items()
    ),
]
